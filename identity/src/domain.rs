//! What identity is about, without a database, a clock or a wire: values in, values out.

mod email;
mod password;
mod refresh_token;
mod session;
mod user;

pub use email::{EmailAddress, EmailError};
pub use password::{Password, PasswordError};
pub use refresh_token::{RefreshToken, SessionKey};
pub use session::{GRACE, Lifetimes, Presented, SESSIONS_MAX, Session, SessionId};
pub use user::{Status, User, Username, roles};
