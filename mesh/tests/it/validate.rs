//! The rules of the contract, on its real messages, and the layer that applies them.

use std::convert::Infallible;
use std::io::Write as _;
use std::time::Duration;

use axum::body::Body;
use bytes::{BufMut as _, Bytes, BytesMut};
use flate2::Compression;
use flate2::write::GzEncoder;
use http::{Request, Response};
use http_body_util::BodyExt as _;
use mesh::call::Call;
use mesh::validate::{Layer, REQUEST_BYTES_MAX, Rules, VIOLATIONS_MAX};
use prost::Message;
use proto::bookings::v1::{CreateHoldRequest, HoldItem};
use proto::identity::v1::{GetUserRequest, SignUpRequest};
use proto::payments::v1::{
    CapturePaymentIntentRequest, Card, CreatePaymentIntentRequest, CreatePaymentMethodRequest,
};
use proto::r#type::Money;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;
use tower::{Layer as _, ServiceExt as _};

const UUID: &str = "00000000-0000-7000-8000-000000000001";
const CREATE_HOLD: &str = "/jetway.bookings.v1.HoldService/CreateHold";

/// `(field, reason, description)` of everything that is wrong with an encoded message.
fn broken_wire(name: &str, wire: &[u8]) -> Vec<(String, &'static str, String)> {
    let pool = proto::descriptor_pool();
    let input = pool.get_message_by_name(name).expect("a message of the contract");
    let violations = Rules::compile(pool).check(&input, wire).err().unwrap_or_default();
    violations
        .into_iter()
        .map(|violation| (violation.field, violation.reason, violation.description))
        .collect()
}

/// `field REASON` of everything that is wrong with a message.
fn broken(name: &str, message: &impl Message) -> Vec<String> {
    broken_wire(name, &message.encode_to_vec())
        .into_iter()
        .map(|(field, reason, _)| format!("{field} {reason}"))
        .collect()
}

fn sign_up() -> SignUpRequest {
    SignUpRequest {
        email: "a@b".to_owned(),
        password: "correct horse".to_owned(),
        username: String::new(),
        display_name: String::new(),
        locale: String::new(),
    }
}

fn broken_sign_up(message: &SignUpRequest) -> Vec<String> {
    broken("jetway.identity.v1.SignUpRequest", message)
}

fn item() -> HoldItem {
    HoldItem {
        flight: format!("flights/{UUID}"),
        cabin: "ECONOMY".to_owned(),
        fare: "LIGHT".to_owned(),
        seat_number: "12A".to_owned(),
        ..HoldItem::default()
    }
}

fn create_hold() -> CreateHoldRequest {
    CreateHoldRequest { items: vec![item()], ttl_seconds: 0, request_id: "one".to_owned() }
}

fn broken_hold(message: &CreateHoldRequest) -> Vec<String> {
    broken("jetway.bookings.v1.CreateHoldRequest", message)
}

fn card() -> Card {
    Card {
        number: "4242424242424242".to_owned(),
        exp_month: 12,
        exp_year: 2030,
        cvc: "123".to_owned(),
        holder: String::new(),
    }
}

fn create_payment_intent() -> CreatePaymentIntentRequest {
    CreatePaymentIntentRequest {
        customer: format!("users/{UUID}"),
        merchant: "merchants/jetway".to_owned(),
        amount: Some(Money { currency_code: "INR".to_owned(), amount_minor: 1 }),
        ..CreatePaymentIntentRequest::default()
    }
}

#[test]
fn right_messages_have_nothing_wrong() {
    assert_eq!(broken_sign_up(&sign_up()), [""; 0]);
    assert_eq!(broken_hold(&create_hold()), [""; 0]);
    let method = CreatePaymentMethodRequest { card: Some(card()), request_id: String::new() };
    assert_eq!(broken("jetway.payments.v1.CreatePaymentMethodRequest", &method), [""; 0]);
    assert_eq!(broken("jetway.payments.v1.CreatePaymentIntentRequest", &create_payment_intent()), [""; 0]);
}

#[test]
fn everything_that_is_wrong_is_said_at_once() {
    let wrong = SignUpRequest {
        email: "a".to_owned(),
        password: "short".to_owned(),
        username: "a b".to_owned(),
        display_name: "x".repeat(101),
        locale: "en_GB".to_owned(),
    };
    let expected = [
        "email STRING_MIN_LEN",
        "password STRING_MIN_LEN",
        "username STRING_PATTERN",
        "display_name STRING_MAX_LEN",
        "locale STRING_PATTERN",
    ];
    assert_eq!(broken_sign_up(&wrong), expected);
}

#[test]
fn a_violation_says_the_rule_and_never_the_value() {
    let wrong = SignUpRequest { password: "hunter2".to_owned(), ..sign_up() };
    let found = broken_wire("jetway.identity.v1.SignUpRequest", &wrong.encode_to_vec());
    let rule = "must have at least 8 characters".to_owned();
    assert_eq!(found, [("password".to_owned(), "STRING_MIN_LEN", rule)]);
}

#[test]
fn lengths_are_counted_in_characters_and_sizes_in_bytes() {
    let characters = SignUpRequest { password: "é".repeat(8), ..sign_up() };
    assert_eq!(broken_sign_up(&characters), [""; 0]);
    let longest = SignUpRequest { password: "😀".repeat(128), ..sign_up() };
    assert_eq!(broken_sign_up(&longest), [""; 0], "128 characters of 4 bytes are 512 bytes");
    let longer = SignUpRequest { password: "😀".repeat(129), ..sign_up() };
    assert_eq!(broken_sign_up(&longer), ["password STRING_MAX_LEN", "password STRING_MAX_BYTES"]);
    let bytes = SignUpRequest { email: "é".repeat(128), ..sign_up() };
    assert_eq!(broken_sign_up(&bytes), ["email STRING_MAX_BYTES"]);
}

#[test]
fn a_text_that_no_database_keeps_is_refused_except_in_a_password() {
    let message = SignUpRequest {
        display_name: "Asha\0".to_owned(),
        password: "correct\0horse".to_owned(),
        ..sign_up()
    };
    assert_eq!(broken_sign_up(&message), ["display_name STRING_NUL"]);
}

#[test]
fn the_rules_of_a_field_without_presence_hold_for_its_zero_value() {
    let empty = SignUpRequest::default();
    assert_eq!(broken_sign_up(&empty), ["email STRING_MIN_LEN", "password STRING_MIN_LEN"]);
}

#[test]
fn a_zero_that_is_to_be_ignored_is_ignored_and_nothing_else_is() {
    for (ttl_seconds, expected) in
        [(0, None), (60, None), (1800, None), (59, Some("GTE")), (-1, Some("GTE")), (1801, Some("LTE"))]
    {
        let found = broken_hold(&CreateHoldRequest { ttl_seconds, ..create_hold() });
        let expected: Vec<_> = expected.into_iter().map(|rule| format!("ttl_seconds INT32_{rule}")).collect();
        assert_eq!(found, expected, "{ttl_seconds}");
    }
}

#[test]
fn an_unset_field_with_presence_is_only_asked_for_when_required() {
    let name = "jetway.payments.v1.CapturePaymentIntentRequest";
    let unset = CapturePaymentIntentRequest {
        name: format!("paymentIntents/{UUID}"),
        ..CapturePaymentIntentRequest::default()
    };
    assert_eq!(broken(name, &unset), [""; 0]);
    for (amount, reason) in [(0, "GTE"), (100_000_000_000, "LTE")] {
        let set = CapturePaymentIntentRequest { amount_to_capture_minor: Some(amount), ..unset.clone() };
        assert_eq!(broken(name, &set), [format!("amount_to_capture_minor INT64_{reason}")]);
    }
    let no_card = CreatePaymentMethodRequest::default();
    assert_eq!(broken("jetway.payments.v1.CreatePaymentMethodRequest", &no_card), ["card REQUIRED"]);
}

#[test]
fn messages_inside_of_messages_are_checked_under_their_path() {
    let wrong = Card { number: "4242 4242".to_owned(), exp_month: 13, ..card() };
    let wrong = CreatePaymentMethodRequest { card: Some(wrong), request_id: String::new() };
    let expected = ["card.number STRING_PATTERN", "card.exp_month INT32_LTE"];
    assert_eq!(broken("jetway.payments.v1.CreatePaymentMethodRequest", &wrong), expected);

    let empty = CreatePaymentMethodRequest { card: Some(Card::default()), request_id: String::new() };
    let expected = [
        "card.number STRING_PATTERN",
        "card.exp_month INT32_GTE",
        "card.exp_year INT32_GTE",
        "card.cvc STRING_PATTERN",
    ];
    assert_eq!(broken("jetway.payments.v1.CreatePaymentMethodRequest", &empty), expected);

    let money = Money { currency_code: "inr".to_owned(), amount_minor: 1 };
    let wrong = CreatePaymentIntentRequest { amount: Some(money), ..create_payment_intent() };
    let expected = ["amount.currency_code STRING_PATTERN"];
    assert_eq!(broken("jetway.payments.v1.CreatePaymentIntentRequest", &wrong), expected);
}

#[test]
fn items_are_counted_and_checked_one_by_one() {
    let none = CreateHoldRequest { items: vec![], ..create_hold() };
    assert_eq!(broken_hold(&none), ["items REPEATED_MIN_ITEMS"]);
    let many = CreateHoldRequest { items: vec![HoldItem::default(); 10], ..create_hold() };
    assert_eq!(broken_hold(&many), ["items REPEATED_MAX_ITEMS"], "too many to be looked at");
    let second = HoldItem { seat_number: "A12".to_owned(), cabin: "economy".to_owned(), ..item() };
    let wrong = CreateHoldRequest { items: vec![item(), second], ..create_hold() };
    assert_eq!(broken_hold(&wrong), ["items[1].cabin STRING_IN", "items[1].seat_number STRING_PATTERN"]);
}

#[test]
fn an_enumeration_takes_none_but_its_values() {
    let name = "jetway.payments.v1.CreatePaymentIntentRequest";
    let wrong = CreatePaymentIntentRequest { capture_method: 99, ..create_payment_intent() };
    assert_eq!(broken(name, &wrong), ["capture_method ENUM_DEFINED_ONLY"]);
    let right = CreatePaymentIntentRequest { capture_method: 1, ..create_payment_intent() };
    assert_eq!(broken(name, &right), [""; 0]);
}

#[test]
fn a_uuid_has_one_form() {
    let name = "jetway.identity.v1.GetUserRequest";
    for right in [UUID, "ABCDEF00-0000-7000-8000-000000000001"] {
        assert_eq!(broken(name, &GetUserRequest { user_id: right.to_owned() }), [""; 0], "{right}");
    }
    let braces = format!("{{{UUID}}}");
    let newline = format!("{UUID}\n");
    let simple = UUID.replace('-', "");
    for wrong in ["", "x", &braces, &simple, &newline, &UUID.replace('7', "g")] {
        let found = broken(name, &GetUserRequest { user_id: wrong.to_owned() });
        assert_eq!(found, ["user_id STRING_UUID"], "{wrong:?}");
    }
}

#[test]
fn what_cannot_be_decoded_is_a_violation_of_the_whole() {
    // A length of 100 with nothing behind it, and a string that is not UTF-8.
    for wire in [&[0x0a, 100][..], &[0x0a, 1, 0xff]] {
        let found = broken_wire("jetway.identity.v1.SignUpRequest", wire);
        let [(field, reason, _)] = found.as_slice() else { panic!("{found:?}") };
        assert_eq!((field.as_str(), *reason), ("", "MALFORMED"));
    }
}

#[test]
fn no_more_violations_are_reported_than_fit_into_headers() {
    let items =
        vec![
            HoldItem { seat_number: "x".to_owned(), price: Some(Money::default()), ..HoldItem::default() };
            9
        ];
    assert_eq!(broken_hold(&CreateHoldRequest { items, ..create_hold() }).len(), VIOLATIONS_MAX);
}

/// The one frame of a call.
fn frame(flag: u8, message: &[u8]) -> Bytes {
    let mut frame = BytesMut::new();
    frame.put_u8(flag);
    frame.put_u32(u32::try_from(message.len()).expect("short"));
    frame.put_slice(message);
    frame.freeze()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).expect("in memory");
    encoder.finish().expect("in memory")
}

/// Calls a server behind the layer that answers with the body it was sent.
async fn send(path: &str, encoding: &str, body: Bytes) -> Result<Bytes, Status> {
    let request =
        Request::post(path).header("grpc-encoding", encoding).body(Body::from(body)).expect("a request");
    send_request(request).await
}

async fn send_request(request: Request<Body>) -> Result<Bytes, Status> {
    let handler = tower::service_fn(async |request: Request<Body>| {
        Ok::<_, Infallible>(Response::new(request.into_body()))
    });
    let response = Layer::new().layer(handler).oneshot(request).await.expect("infallible");
    if let Some(status) = Status::from_header_map(response.headers()) {
        return Err(status);
    }
    Ok(response.into_body().collect().await.expect("read").to_bytes())
}

fn reason(status: &Status) -> String {
    status.get_details_error_info().expect("an ErrorInfo").reason
}

fn fields(status: &Status) -> Vec<(String, String)> {
    let violations = status.get_details_bad_request().expect("a BadRequest").field_violations;
    violations.into_iter().map(|violation| (violation.field, violation.description)).collect()
}

#[tokio::test]
async fn a_right_request_reaches_the_handler_byte_for_byte() {
    let plain = frame(0, &create_hold().encode_to_vec());
    assert_eq!(send(CREATE_HOLD, "identity", plain.clone()).await.expect("passed"), plain);
    let packed = frame(1, &gzip(&create_hold().encode_to_vec()));
    assert_eq!(send(CREATE_HOLD, "gzip", packed.clone()).await.expect("passed"), packed);
}

#[tokio::test]
async fn a_wrong_request_is_refused_with_every_field() {
    let wrong = CreateHoldRequest { items: vec![], ttl_seconds: 1, ..create_hold() };
    for (flag, message) in [(0, wrong.encode_to_vec()), (1, gzip(&wrong.encode_to_vec()))] {
        let status = send(CREATE_HOLD, "gzip", frame(flag, &message)).await.expect_err("refused");
        assert_eq!(status.code(), Code::InvalidArgument);
        assert_eq!(reason(&status), "FIELD_INVALID");
        let expected = [("items", "must have at least 1 item"), ("ttl_seconds", "must be from 60 to 1800")]
            .map(|(field, rule)| (field.to_owned(), rule.to_owned()));
        assert_eq!(fields(&status), expected);
        assert!(status.message().starts_with("invalid request: "), "{}", status.message());
    }
}

#[tokio::test]
async fn a_missing_request_id_is_refused_where_it_is_required_and_only_there() {
    let without = CreateHoldRequest { request_id: String::new(), ..create_hold() };
    let status =
        send(CREATE_HOLD, "identity", frame(0, &without.encode_to_vec())).await.expect_err("refused");
    assert_eq!((status.code(), reason(&status).as_str()), (Code::InvalidArgument, "REQUEST_ID_REQUIRED"));
    let [(field, rule)] = fields(&status).try_into().expect("one violation");
    assert_eq!(field, "request_id");
    assert!(rule.contains("Idempotency-Key"), "{rule}");

    let path = "/jetway.payments.v1.PaymentMethodService/CreatePaymentMethod";
    let optional = CreatePaymentMethodRequest { card: Some(card()), request_id: String::new() };
    send(path, "identity", frame(0, &optional.encode_to_vec())).await.expect("passed");
}

#[tokio::test]
async fn a_body_that_is_not_one_message_is_refused() {
    let right = frame(0, &create_hold().encode_to_vec());
    let twice = Bytes::from([right.clone(), right.clone()].concat());
    let bodies = [
        Bytes::new(),
        right.slice(..4),
        right.slice(..right.len() - 1),
        twice,
        frame(0, &[0x0a, 100]),
        frame(1, b"not gzip"),
        frame(2, &create_hold().encode_to_vec()),
    ];
    for body in bodies {
        let status = send(CREATE_HOLD, "gzip", body.clone()).await.expect_err("refused");
        let expected = (Code::InvalidArgument, "REQUEST_MALFORMED");
        assert_eq!((status.code(), reason(&status).as_str()), expected, "{body:?}");
    }
}

#[tokio::test]
async fn an_unknown_compression_is_unimplemented() {
    let body = frame(1, &create_hold().encode_to_vec());
    for encoding in ["identity", "zstd"] {
        let status = send(CREATE_HOLD, encoding, body.clone()).await.expect_err("refused");
        assert_eq!(status.code(), Code::Unimplemented, "{encoding}");
    }
}

#[tokio::test]
async fn a_request_over_the_limit_is_refused_also_when_it_is_small_on_the_wire() {
    let zeros = vec![0; REQUEST_BYTES_MAX + 1];
    for (flag, message) in [(0, zeros.clone()), (1, gzip(&zeros))] {
        let status = send(CREATE_HOLD, "gzip", frame(flag, &message)).await.expect_err("refused");
        assert_eq!(reason(&status), "REQUEST_TOO_LARGE");
    }
}

#[tokio::test]
async fn calls_of_unknown_methods_pass_untouched() {
    let body = Bytes::from_static(b"anything");
    let passed = send("/grpc.health.v1.Health/Check", "identity", body.clone()).await.expect("passed");
    assert_eq!(passed, body);
}

#[tokio::test]
async fn a_request_that_does_not_end_is_given_up_at_the_deadline() {
    let body = Body::from_stream(futures::stream::pending::<Result<Bytes, Infallible>>());
    let request = Request::post(CREATE_HOLD)
        .extension(Call::background(Duration::from_millis(10)))
        .body(body)
        .expect("a request");

    let status = send_request(request).await.expect_err("too late");

    assert_eq!((status.code(), reason(&status).as_str()), (Code::DeadlineExceeded, "DEADLINE_EXCEEDED"));
}
