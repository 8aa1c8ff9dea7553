//! The account that a call with a credential is for, before anybody knows whether there is one.

use std::net::IpAddr;

use prost::encoding::{WireType, decode_key, decode_varint, skip_field};
use prost_reflect::{Kind, MessageDescriptor};
use sha2::{Digest as _, Sha256};

/// The field that names an account.
const FIELD: &str = "email";

/// What calls of a method for the account of an e-mail address are counted by, those from one network or, with `None`, from anywhere: a store of limits is
/// no place to keep addresses.
///
/// Spaces around an address and the case of its ASCII letters make no difference. What else makes two addresses one is for the service to say, which
/// has its own limits.
pub(super) fn digest(method: &str, email: &str, network: Option<IpAddr>) -> [u8; 16] {
    // Only what comes last may have a line break in it.
    let network = network.map_or_else(String::new, |network| network.to_string());
    let text = format!("{method}\n{network}\n{}", email.trim().to_ascii_lowercase());
    let digest = Sha256::digest(text.as_bytes());
    let mut half = [0; 16];
    half.copy_from_slice(&digest[..16]);
    half
}

/// The number of the field that names an account in requests of this type.
fn field(input: &MessageDescriptor) -> Option<u32> {
    let field = input.get_field_by_name(FIELD)?;
    (matches!(field.kind(), Kind::String) && !field.is_list()).then(|| field.number())
}

/// The e-mail address in a request, if its type has one: the last, as protobuf has it.
pub(crate) fn email_of<'m>(input: &MessageDescriptor, mut message: &'m [u8]) -> Option<&'m str> {
    let wanted = field(input)?;
    let mut email = None;
    while !message.is_empty() {
        let (number, wire_type) = decode_key(&mut message).ok()?;
        if (number, wire_type) == (wanted, WireType::LengthDelimited) {
            let length = usize::try_from(decode_varint(&mut message).ok()?).ok()?;
            let (value, rest) = message.split_at_checked(length)?;
            email = std::str::from_utf8(value).ok().filter(|email| !email.is_empty());
            message = rest;
        } else {
            skip_field(wire_type, number, &mut message, prost::encoding::DecodeContext::default()).ok()?;
        }
    }
    email
}
