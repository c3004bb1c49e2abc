//! PEM as everybody writes it, RFC 7468: lines of 64 letters. Reading is `rustls-pki-types`'s.

use data_encoding::BASE64;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

/// Letters of a line, RFC 7468 section 2.
const LINE_LETTERS: usize = 64;

/// One object with its label.
pub(crate) fn encode(label: &str, der: &[u8]) -> String {
    let letters = BASE64.encode(der);
    let mut text = format!("-----BEGIN {label}-----\n");
    let mut rest = letters.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(LINE_LETTERS));
        text.push_str(line);
        text.push('\n');
        rest = after;
    }
    text.push_str(&format!("-----END {label}-----\n"));
    text
}

/// The certificates of a text, and nothing else that may be in it, such as a key or remarks.
pub(crate) fn certificates(text: &[u8]) -> String {
    let certificates = CertificateDer::pem_slice_iter(text).flatten();
    certificates
        .map(|one| encode("CERTIFICATE", &one))
        .collect()
}

#[cfg(test)]
mod tests {
    use rustls_pki_types::CertificateDer;
    use rustls_pki_types::pem::PemObject as _;

    use super::*;

    #[test]
    fn what_is_written_can_be_read() {
        for length in [0, 1, 47, 48, 49, 1000] {
            let bytes = vec![7; length];
            let text = encode("CERTIFICATE", &bytes);
            assert!(text.lines().all(|line| line.len() <= LINE_LETTERS));
            let read = CertificateDer::from_pem_slice(text.as_bytes()).unwrap();
            assert_eq!(read.as_ref(), bytes);
        }
        assert_eq!(
            encode("A", &[0; 48]),
            format!("-----BEGIN A-----\n{}\n-----END A-----\n", "A".repeat(64))
        );
    }
}
