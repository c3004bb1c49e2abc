//! Owns making a failing input smaller, so that a person sees what matters in it.

/// Checks at most; a failing input of the sizes generated is small long before.
const CHECKS_MAX: usize = 4096;

/// A shorter and plainer input that still fails: cuts out ever smaller pieces, then replaces bytes.
pub(crate) fn shrink(mut input: Vec<u8>, fails: impl Fn(&[u8]) -> bool) -> Vec<u8> {
    let mut checks = 0;
    let mut still_fails = |candidate: &[u8]| {
        checks += 1;
        checks <= CHECKS_MAX && fails(candidate)
    };
    let mut piece = input.len().next_power_of_two();
    while piece > 0 {
        let mut start = 0;
        while start < input.len() {
            let end = input.len().min(start + piece);
            let candidate = [&input[..start], &input[end..]].concat();
            if still_fails(&candidate) {
                input = candidate;
            } else {
                start = end;
            }
        }
        piece /= 2;
    }
    for place in 0..input.len() {
        for plain in [b'a', b'0'] {
            let before = input[place];
            if before.is_ascii_alphanumeric() {
                break;
            }
            input[place] = plain;
            if still_fails(&input) {
                break;
            }
            input[place] = before;
        }
    }
    input
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaves_what_fails() {
        let noise: Vec<u8> = (0..=255).collect();
        let input = [&noise[..], b"xy", &noise].concat();
        let small = shrink(input, |bytes| bytes.windows(2).any(|pair| pair == b"xy"));
        assert_eq!(small, b"xy");
    }
}
