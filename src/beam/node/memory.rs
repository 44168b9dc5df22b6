//! The memory of this process, as the kernel counts it.

/// Returns the resident memory of this process, in bytes (`VmRSS` in proc(5)).
#[must_use]
pub(crate) fn resident() -> Option<u64> {
    parse(&std::fs::read_to_string("/proc/self/status").ok()?)
}

fn parse(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_resident_memory_is_read_from_the_status() {
        assert_eq!(parse("Name:\tx\nVmHWM:\t  9 kB\nVmRSS:\t     512 kB\nThreads:\t1\n"), Some(512 * 1024));
        assert_eq!(parse("VmRSS:\t 99999999999999999999 kB\n"), None);
        assert_eq!(parse(""), None);
        assert!(resident().is_some_and(|bytes| bytes > 0));
    }
}
