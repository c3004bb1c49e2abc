//! "Did you mean": the known name that is nearest to a mistyped one.

/// Names longer than this are nobody's typing mistake, and comparing takes the product of the lengths.
const NAME_BYTES_MAX: usize = 64;

/// The known name nearest to `name` without regard to case, if one is near enough to be meant: one wrong, missing,
/// surplus or swapped character for each three, but at least one. The first of several equally near ones.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if name.len() > NAME_BYTES_MAX {
        return None;
    }
    let name = name.to_lowercase();
    let distance_max = (name.chars().count() / 3).max(1);
    let candidates = known
        .into_iter()
        .filter(|candidate| candidate.len().abs_diff(name.len()) <= 4 * distance_max)
        .map(|candidate| {
            let distance = strsim::damerau_levenshtein(&name, &candidate.to_lowercase());
            (distance, candidate)
        });
    candidates
        .filter(|&(distance, candidate)| distance <= distance_max && distance < candidate.len())
        .min_by_key(|&(distance, _)| distance)
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::nearest;

    const KNOWN: [&str; 4] = ["port", "max_payload", "max_pending", "tls"];

    #[test]
    fn names_that_were_mistyped_are_found() {
        for (name, expected) in [
            ("prot", Some("port")),
            ("Max_Payloda", Some("max_payload")),
            ("maxpending", Some("max_pending")),
            ("tsl", Some("tls")),
            ("store_dir", None),
            ("x", None),
            ("", None),
        ] {
            assert_eq!(nearest(name, KNOWN), expected, "{name}");
        }
    }

    #[test]
    fn a_name_of_a_megabyte_is_not_compared() {
        assert_eq!(nearest(&"x".repeat(1 << 20), KNOWN), None);
    }
}
