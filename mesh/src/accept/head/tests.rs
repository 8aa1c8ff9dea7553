use super::*;

const LIMIT: usize = 256;

fn scan(bytes: &[u8]) -> Scanned {
    Scanner::new(LIMIT).scan(bytes)
}

fn refusal(bytes: &[u8]) -> Option<&'static str> {
    match scan(bytes) {
        Scanned::Refused(_, violation) => Some(violation.rule()),
        Scanned::All | Scanned::Upto(_) => None,
    }
}

const PLAIN: &[u8] = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n";

#[test]
fn what_two_readers_might_read_differently_is_refused() {
    for (head, rule) in [
        ("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n", "together"),
        ("POST / HTTP/1.1\r\nhost: a\r\nTransfer-Encoding: Chunked\r\nCONTENT-LENGTH: 3\r\n\r\n", "together"),
        ("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\n", "once"),
        ("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: +3\r\n\r\n", "number"),
        ("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3, 3\r\n\r\n", "number"),
        ("POST / HTTP/1.1\r\nhost: a\r\ncontent-length:\r\n\r\n", "number"),
        ("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: xchunked\r\n\r\n", "chunked"),
        ("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip, chunked\r\n\r\n", "chunked"),
        (
            "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n",
            "chunked",
        ),
        ("POST / HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n", "HTTP/1.0"),
        ("GET / HTTP/1.1\r\nhost: a\r\nHost: b\r\n\r\n", "`Host` must be sent once"),
        ("GET / HTTP/1.1\r\naccept: */*\r\n\r\n", "`Host` is missing"),
        ("GET / HTTP/1.1\r\nhost: a\r\nx: 1\r\n y\r\n\r\n", "folded"),
        ("GET / HTTP/1.1\r\nhost: a\r\nnothing\r\n\r\n", "colon"),
        ("GET / HTTP/1.1\r\nhost : a\r\n\r\n", "token"),
        ("GET / HTTP/1.1\r\nhost: a\r\n: x\r\n\r\n", "token"),
        ("GET / HTTP/1.1\r\nhost: a\r\nx\u{e9}: x\r\n\r\n", "token"),
        ("GET / HTTP/1.1\r\nhost: a\r\nx: a\0b\r\n\r\n", "control"),
        ("GET / HTTP/1.1\r\nhost: a\r\nx: a\u{7f}b\r\n\r\n", "control"),
        ("GET /\r\nhost: a\r\n\r\n", "request line"),
        ("GET  / HTTP/1.1\r\nhost: a\r\n\r\n", "request line"),
        ("GET /a b HTTP/1.1\r\nhost: a\r\n\r\n", "request line"),
        ("G(T / HTTP/1.1\r\nhost: a\r\n\r\n", "method"),
        ("GET /\u{1} HTTP/1.1\r\nhost: a\r\n\r\n", "URI"),
        ("GET http://[::1 HTTP/1.1\r\nhost: a\r\n\r\n", "URI"),
        ("GET / HTTP/1.2\r\nhost: a\r\n\r\n", "version"),
        ("GET / http/1.1\r\nhost: a\r\n\r\n", "version"),
        ("GET / HTTP/1.1\nhost: a\r\n\r\n", "CRLF"),
        ("GET / HTTP/1.1\r\nhost: a\n\r\n", "CRLF"),
        ("GET / HTTP/1.1\r\nhost: a\r\nx: b\rc\r\n\r\n", "CRLF"),
        ("GET / HTTP/1.1\r\nhost: a\r\n\n", "CRLF"),
    ] {
        let refused = refusal(head.as_bytes()).unwrap_or_else(|| panic!("let through: {head:?}"));
        assert!(refused.contains(rule), "{head:?}: {refused}");
    }
}

#[test]
fn ordinary_requests_pass_one_after_the_other() {
    let mut bytes = b"\r\n".to_vec();
    bytes.extend_from_slice(PLAIN);
    bytes.extend_from_slice(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\na\nb");
    bytes.extend_from_slice(b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n");
    bytes.extend_from_slice(b"3;ext=\"x\"\r\n\n\n\n\r\nA\r\n0123456789\r\n0\r\ntrailer: x\r\n\r\n");
    bytes.extend_from_slice(b"GET / HTTP/1.0\r\n\r\n");
    bytes.extend_from_slice(PLAIN);
    assert_eq!(scan(&bytes), Scanned::All);
}

#[test]
fn a_refused_request_is_found_behind_bodies_however_the_bytes_are_cut() {
    let mut bytes = b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
    bytes.extend_from_slice(b"1f\r\n0123456789012345678901234567890\r\n0\r\n\r\n");
    bytes.extend_from_slice(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 20\r\n\r\nGET / HTTP/1.1\nhost:");
    let good = bytes.len();
    bytes.extend_from_slice(b"GET / HTTP/1.1\nhost: a\r\n\r\n");

    for size in 1..bytes.len() {
        let (mut scanner, mut passed, mut kept) = (Scanner::new(LIMIT), 0, Vec::new());
        for piece in bytes.chunks(size) {
            kept.extend_from_slice(piece);
            match scanner.scan(&kept) {
                Scanned::All => passed += std::mem::take(&mut kept).len(),
                Scanned::Upto(length) => {
                    passed += length;
                    kept.drain(..length);
                }
                Scanned::Refused(length, _) => {
                    passed += length;
                    break;
                }
            }
        }
        assert_eq!(passed, good, "in pieces of {size}");
    }
}

#[test]
fn an_unfinished_header_waits_for_its_end() {
    let mut bytes = PLAIN.to_vec();
    bytes.extend_from_slice(b"GET / HTTP/1.1\r\nho");
    let mut scanner = Scanner::new(LIMIT);
    assert_eq!(scanner.scan(&bytes), Scanned::Upto(PLAIN.len()));
    assert!(scanner.in_head());
    assert_eq!(scanner.scan(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"), Scanned::All);
}

#[test]
fn a_header_over_the_limit_is_refused_before_and_at_its_end() {
    let long = "x".repeat(LIMIT);
    let line = format!("GET /{long}");
    assert_eq!(scan(line.as_bytes()), Scanned::Refused(0, Violation::TargetTooLong));
    let header = format!("GET / HTTP/1.1\r\nhost: {long}");
    assert_eq!(scan(header.as_bytes()), Scanned::Refused(0, Violation::HeaderTooLarge));
    let whole = format!("GET / HTTP/1.1\r\nhost: a\r\nx: {long}\r\n\r\n");
    assert_eq!(scan(whole.as_bytes()), Scanned::Refused(0, Violation::HeaderTooLarge));
    let exact = format!("GET / HTTP/1.1\r\nhost: {}\r\n\r\n", "x".repeat(LIMIT - 26));
    assert_eq!((exact.len(), scan(exact.as_bytes())), (LIMIT, Scanned::All));
}

#[test]
fn a_chunk_size_that_no_number_holds_is_left_to_hyper() {
    let mut bytes = b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
    bytes.extend_from_slice(b"fffffffffffffffffffff\r\nGET / HTTP/1.1\n\n");
    assert_eq!(scan(&bytes), Scanned::All);
}
