//! Typed identifiers: a UUIDv7 that knows what it names.

/// Declares an identifier type for one kind of resource.
///
/// `typed_id!(BookingId, "bookings")` makes a type that is stored as `uuid`, prints as the UUID, and has the resource name `bookings/{uuid}`
/// (AIP-122).
#[macro_export]
macro_rules! typed_id {
    ($(#[$doc:meta])* $name:ident, $collection:literal) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, $crate::id::serde::Serialize, $crate::id::serde::Deserialize,
            $crate::id::diesel::expression::AsExpression, $crate::id::diesel::deserialize::FromSqlRow,
        )]
        #[serde(crate = "mesh::id::serde", transparent)]
        #[diesel(sql_type = diesel::sql_types::Uuid)]
        pub struct $name($crate::id::Uuid);

        impl $name {
            /// The collection that starts the resource name.
            pub const COLLECTION: &'static str = $collection;

            /// A new identifier, later than all before it.
            pub fn generate() -> Self {
                Self($crate::id::generate())
            }

            /// The resource name: collection and UUID.
            pub fn name(self) -> String {
                format!(concat!($collection, "/{}"), self.0)
            }

            /// Reads a resource name; `None` when it is not one of this collection.
            pub fn from_name(name: &str) -> Option<Self> {
                let uid = name.strip_prefix(concat!($collection, "/"))?;
                $crate::id::Uuid::try_parse(uid).ok().map(Self)
            }

            /// The UUID itself.
            pub fn uuid(self) -> $crate::id::Uuid {
                self.0
            }
        }

        impl From<$crate::id::Uuid> for $name {
            fn from(uuid: $crate::id::Uuid) -> Self {
                Self(uuid)
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                std::fmt::Display::fmt(&self.0, f)
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, concat!($collection, "/{}"), self.0)
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::id::ParseError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                $crate::id::Uuid::try_parse(text).map(Self)
            }
        }

        impl $crate::id::diesel::serialize::ToSql<diesel::sql_types::Uuid, diesel::pg::Pg> for $name {
            fn to_sql<'b>(
                &'b self,
                out: &mut $crate::id::diesel::serialize::Output<'b, '_, diesel::pg::Pg>,
            ) -> $crate::id::diesel::serialize::Result {
                $crate::id::diesel::serialize::ToSql::<diesel::sql_types::Uuid, diesel::pg::Pg>::to_sql(&self.0, out)
            }
        }

        impl $crate::id::diesel::deserialize::FromSql<diesel::sql_types::Uuid, diesel::pg::Pg> for $name {
            fn from_sql(bytes: diesel::pg::PgValue<'_>) -> $crate::id::diesel::deserialize::Result<Self> {
                $crate::id::diesel::deserialize::FromSql::<diesel::sql_types::Uuid, diesel::pg::Pg>::from_sql(bytes).map(Self)
            }
        }
    };
}

pub use diesel;
pub use serde;
pub use uuid::{Error as ParseError, Uuid};

/// A new UUIDv7: ordered by time, unique without coordination.
#[expect(clippy::disallowed_methods, reason = "the one place that makes identifiers")]
pub fn generate() -> Uuid {
    Uuid::now_v7()
}

/// The UUID that names `parts` for ever: the same parts give the same UUID (RFC 9562, version 5).
///
/// Keys for calls downstream are derived this way, so that a retry after a crash sends the key that was sent before.
pub fn derive(namespace: Uuid, parts: &str) -> Uuid {
    Uuid::new_v5(&namespace, parts.as_bytes())
}
