//! The names in a client's certificate. The shell reads them; which of them is a user is decided here.

/// The names in the certificate a client proved to hold, in the certificate's order.
///
/// They are facts only: the certificate's chain was verified by the shell before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CertificateNames {
    /// E-mail addresses among the subject's alternative names.
    pub emails: Vec<String>,
    /// DNS names among the subject's alternative names.
    pub dns_names: Vec<String>,
    /// URIs among the subject's alternative names.
    pub uris: Vec<String>,
    /// The subject in the form of RFC 2253, as nats-server shows and matches it: attributes of the same kind
    /// gathered into one name, unknown ones as `oid=#hex`.
    pub subject: String,
    /// The subject as it stands in the certificate: relative names from the root down, each with all its
    /// attributes.
    pub subject_names: Vec<Vec<SubjectAttribute>>,
}

/// One attribute of a subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubjectAttribute {
    /// Its short name, as `CN` or `DC`, or its object identifier if it has none.
    pub kind: String,
    /// Its value; `None` if it is not text.
    pub value: Option<String>,
}
