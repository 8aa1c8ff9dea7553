//! E-mail addresses: the form the user wrote, and the form they are compared in.

/// Longest address, in bytes (RFC 5321, 4.5.3.1.3, less the angle brackets).
const LENGTH_MAX: usize = 254;

/// Longest local part, in bytes (RFC 5321, 4.5.3.1.1).
const LOCAL_LENGTH_MAX: usize = 64;

/// Longest label of a domain, in bytes (RFC 1035, 2.3.4).
const LABEL_LENGTH_MAX: usize = 63;

/// An e-mail address.
///
/// Two addresses are the same account when their canonical forms are equal: ASCII letters in lower case, nothing else changed. Dots and
/// `+tags` in the local part stay, because only the mail provider knows what they mean. Everything that is not ASCII is refused, so that no
/// look-alike letter folds into another address; an international domain is written in its `xn--` form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EmailAddress {
    display: String,
    canonical: String,
}

/// Why a text is no e-mail address. Says nothing of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EmailError {
    /// Longer than 254 bytes.
    #[error("must be at most 254 bytes")]
    TooLong,
    /// No `@`.
    #[error("must have an @")]
    NoAt,
    /// The part before the last `@` is not a dot-atom (RFC 5322, 3.2.3).
    #[error("has a part before the @ that is not letters, digits and the usual signs, separated by dots")]
    Local,
    /// The part after it is not a host name with a dot (RFC 1123, 2.1).
    #[error("has a part after the @ that is not a domain name")]
    Domain,
}

impl EmailAddress {
    /// Reads an address.
    ///
    /// # Errors
    ///
    /// The first rule it breaks.
    pub fn parse(text: &str) -> Result<Self, EmailError> {
        if text.len() > LENGTH_MAX {
            return Err(EmailError::TooLong);
        }
        let (local, domain) = text.rsplit_once('@').ok_or(EmailError::NoAt)?;
        if !is_dot_atom(local) {
            return Err(EmailError::Local);
        }
        if !is_domain(domain) {
            return Err(EmailError::Domain);
        }
        Ok(Self { display: text.to_owned(), canonical: text.to_ascii_lowercase() })
    }

    /// As the user wrote it.
    pub fn display(&self) -> &str {
        &self.display
    }

    /// As it is compared.
    pub fn canonical(&self) -> &str {
        &self.canonical
    }
}

fn is_dot_atom(local: &str) -> bool {
    let is_text = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~".contains(&byte);
    local.len() <= LOCAL_LENGTH_MAX
        && local.split('.').all(|atom| !atom.is_empty() && atom.bytes().all(is_text))
}

fn is_domain(domain: &str) -> bool {
    let is_label = |label: &str| {
        (1..=LABEL_LENGTH_MAX).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let is_address = |last: &str| last.bytes().all(|byte| byte.is_ascii_digit());
    domain.split('.').all(is_label) && domain.rsplit_once('.').is_some_and(|(_, last)| !is_address(last))
}

#[cfg(test)]
mod tests;
