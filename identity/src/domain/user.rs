//! Users, their names and roles.

use jiff::Timestamp;
use mesh::auth::PrincipalId;

/// Roles that the code knows. Others may be added to the table.
pub mod roles {
    /// Every user's; given with the account.
    pub const CUSTOMER: &str = "customer";
    /// Manages users and roles.
    pub const ADMIN: &str = "admin";
}

/// Whether a user may sign in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// They may.
    Active,
    /// An admin has banned them.
    Disabled,
    /// The account is gone; the row keeps its id from being used again.
    Deleted,
}

/// A user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Who.
    pub id: PrincipalId,
    /// The e-mail address as they wrote it.
    pub email: String,
    /// The username as they wrote it.
    pub username: Option<String>,
    /// How they want to be called; may be empty.
    pub display_name: String,
    /// BCP 47 language tag; may be empty.
    pub locale: String,
    /// Whether they may sign in.
    pub status: Status,
    /// Counts the changes to what they may do, from 1.
    pub sv: i64,
    /// When they signed up.
    pub created_at: Timestamp,
    /// Their roles, sorted by name.
    pub roles: Vec<String>,
}

/// A username: letters, digits, `.`, `_` and `-`, unique without regard to case. Never has an `@`, so it is never an e-mail address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Username {
    display: String,
    canonical: String,
}

impl Username {
    /// Reads a username; `None` when it is none.
    pub fn parse(text: &str) -> Option<Self> {
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        ((3..=50).contains(&text.len()) && text.bytes().all(is_name))
            .then(|| Self { display: text.to_owned(), canonical: text.to_ascii_lowercase() })
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
