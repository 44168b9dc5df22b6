//! Counts operations in tests: the cost of a message must grow no faster than `n log n` in its
//! bytes.
//!
//! Counts reads of a message, comparisons, hashes and copies of atoms (each pid and each reference
//! has one), and comparisons of map keys. It counts only in tests of this crate, or with the
//! feature `internals`. Programs enable the feature to test how much work they do for a message.

#[cfg(any(test, feature = "internals"))]
thread_local! {
    static COUNT: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

/// Adds to the number of operations.
#[cfg(any(test, feature = "internals"))]
pub(crate) fn count(operations: u64) {
    COUNT.set(COUNT.get() + operations);
}

/// Adds nothing: only tests count.
#[cfg(not(any(test, feature = "internals")))]
pub(crate) fn count(_operations: u64) {}

/// Returns the number of operations of `run`.
#[cfg(any(test, feature = "internals"))]
pub fn of(run: impl FnOnce()) -> u64 {
    let before = COUNT.get();
    run();
    COUNT.get() - before
}

/// Runs a message of n, 2n and 4n elements, and asserts that the cost grows by at most 2.6 with
/// each doubling. `n log n` grows by about 2.2, tables rehash at random, and `n * n` grows by 4.
#[cfg(any(test, feature = "internals"))]
pub fn assert_n_log_n(what: &str, n: usize, mut cost: impl FnMut(usize) -> u64) {
    let costs = [n, 2 * n, 4 * n].map(&mut cost);
    for (less, more) in costs.iter().zip(costs.iter().skip(1)) {
        assert!(*less > 0 && more * 10 <= less * 26, "{what}: {costs:?}");
    }
}
