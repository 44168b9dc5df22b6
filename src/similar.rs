//! Finds the known name that is most like a misspelled one.

use crate::limits;

/// Returns the known name that differs from `name` in the fewest edits, if these are at most `most`.
/// Compares at most [`limits::SUGGESTION_WORK`] pairs of bytes.
pub fn closest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>, most: usize) -> Option<&'a str> {
    let mut work = 0_usize;
    let affordable = known.into_iter().filter(|known| known.len().abs_diff(name.len()) <= most).take_while(|known| {
        work = work.saturating_add(known.len().saturating_mul(name.len()));
        work <= limits::SUGGESTION_WORK
    });
    let near = affordable.map(|known| (strsim::osa_distance(name, known), known));
    near.min().filter(|(edits, _)| *edits <= most).map(|(_, known)| known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_too_many_edits_is_not_similar() {
        assert_eq!(closest("dirmode", ["dir_mode", "socket_mode"], 1), Some("dir_mode"));
        assert_eq!(closest("dmode", ["dir_mode", "socket_mode"], 2), None);
    }

    #[test]
    fn the_work_is_bounded() {
        let length = 1024;
        let fitting = limits::SUGGESTION_WORK / (length * length);
        let name = "a".repeat(length);
        let (far, near) = ("b".repeat(length), format!("{}b", "a".repeat(length - 1)));
        let among = |count: usize| std::iter::repeat_n(far.as_str(), count).chain([near.as_str()]);
        assert_eq!(closest(&name, among(fitting - 1), 8), Some(near.as_str()));
        assert_eq!(closest(&name, among(fitting), 8), None);
        // A name from the command line can be of any length.
        let endless = "a".repeat(limits::SUGGESTION_WORK);
        assert_eq!(closest(&endless, [endless.as_str()], 8), None);
    }
}
