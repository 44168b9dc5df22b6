//! Counts operations in tests: the cost of a message must grow no faster than `n log n` in its
//! bytes.
//!
//! Counts reads of a message, comparisons, hashes and copies of atoms (each pid and each reference
//! has one), and comparisons of map keys. Without tests it counts nothing.

#[cfg(test)]
thread_local! {
    static COUNT: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

/// Adds to the number of operations.
#[cfg(test)]
pub(crate) fn count(operations: u64) {
    COUNT.set(COUNT.get() + operations);
}

/// Adds nothing: only tests count.
#[cfg(not(test))]
pub(crate) fn count(_operations: u64) {}

/// Returns the number of operations of `run`.
#[cfg(test)]
pub(crate) fn of(run: impl FnOnce()) -> u64 {
    let before = COUNT.get();
    run();
    COUNT.get() - before
}

/// Runs a message of n, 2n and 4n elements, and asserts that the cost grows by at most 2.6 with
/// each doubling. `n log n` grows by about 2.2, tables rehash at random, and `n * n` grows by 4.
#[cfg(test)]
pub(crate) fn assert_n_log_n(what: &str, n: usize, mut cost: impl FnMut(usize) -> u64) {
    let costs = [n, 2 * n, 4 * n].map(&mut cost);
    for pair in costs.windows(2) {
        assert!(pair[0] > 0 && pair[1] * 10 <= pair[0] * 26, "{what}: {costs:?}");
    }
}
