use std::io::Write as _;

use bytes::Bytes;
use flate2::write::GzEncoder;
use futures::FutureExt as _;
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use proptest::prelude::*;

use super::decode::{Decoded, Fault, whole};
use super::{Coding, Encoder};

/// What a body in these pieces decodes to; `None` when it is not what its coding says.
fn decode(coding: Coding, pieces: Vec<Vec<u8>>) -> Option<Vec<u8>> {
    let frames = pieces.into_iter().map(|piece| Ok::<_, std::io::Error>(Frame::data(Bytes::from(piece))));
    let body = StreamBody::new(futures::stream::iter(frames));
    let decoded = Decoded::new(coding, body, 1 << 20).expect("memory for a decoder");
    let all = decoded.collect().now_or_never().expect("the body is all there");
    Some(all.ok()?.to_bytes().to_vec())
}

fn cut(bytes: &[u8], size: usize) -> Vec<Vec<u8>> {
    bytes.chunks(size).map(<[u8]>::to_vec).collect()
}

fn encode(coding: Coding, chunks: &[Vec<u8>]) -> Vec<u8> {
    let mut encoder = Encoder::new(coding).expect("memory for an encoder");
    let mut coded: Vec<u8> =
        chunks.iter().flat_map(|chunk| encoder.code(chunk).expect("in memory")).collect();
    coded.extend(encoder.finish().expect("in memory"));
    coded
}

proptest! {
    #[test]
    fn what_is_coded_in_chunks_decodes_however_it_is_cut(
        chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..6),
        repeat in 1..200_usize,
        size in 1..100_usize,
    ) {
        let chunks: Vec<Vec<u8>> = chunks.iter().map(|chunk| chunk.repeat(repeat)).collect();
        for coding in [Coding::Gzip, Coding::Zstd] {
            let coded = encode(coding, &chunks);
            prop_assert_eq!(decode(coding, cut(&coded, size)), Some(chunks.concat()));
            let short = coded[..coded.len() - 1].to_vec();
            prop_assert_eq!(decode(coding, cut(&short, size)), None, "without its last byte");
        }
    }

    #[test]
    fn what_is_broken_ends_and_does_not_panic(
        data in prop::collection::vec(any::<u8>(), 0..200),
        at in any::<prop::sample::Index>(),
        flip in 1..=255_u8,
        size in 1..50_usize,
    ) {
        for coding in [Coding::Gzip, Coding::Zstd] {
            decode(coding, cut(&data, size));
            let mut coded = encode(coding, std::slice::from_ref(&data));
            let at = at.index(coded.len());
            coded[at] ^= flip;
            decode(coding, cut(&coded, size));
        }
    }
}

#[test]
fn a_frame_of_a_bomb_is_small() {
    let zeroes = vec![0; 8 << 20];
    let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(&zeroes).expect("in memory");
    let gzip = encoder.finish().expect("in memory");
    let zstd = zstd::bulk::compress(&zeroes, 3).expect("in memory");
    for (coding, bomb) in [(Coding::Gzip, gzip), (Coding::Zstd, zstd)] {
        let frames = [Ok::<_, std::io::Error>(Frame::data(Bytes::from(bomb)))];
        let mut decoded =
            Decoded::new(coding, StreamBody::new(futures::stream::iter(frames)), 1 << 20).expect("memory");
        let mut sum = 0;
        while let Some(frame) = decoded.frame().now_or_never().expect("all there") {
            let length = frame.expect("whole").into_data().expect("data").len();
            assert!(length <= 300_000, "{coding:?}: {length}");
            sum += length;
        }
        assert_eq!(sum, zeroes.len(), "{coding:?}");
    }
}

/// The shortest members and frames that there are, none of which holds anything.
fn nothing() -> [(Coding, Vec<u8>); 3] {
    let member = encode(Coding::Gzip, &[]);
    [
        (Coding::Gzip, member),
        (Coding::Zstd, zstd::bulk::compress(b"", 1).expect("in memory")),
        (Coding::Zstd, vec![0x50, 0x2a, 0x4d, 0x18, 0, 0, 0, 0]),
    ]
}

#[test]
fn a_stream_that_decodes_to_nothing_for_ever_is_given_up() {
    for (coding, part) in nothing() {
        let endless =
            futures::stream::repeat_with(|| Ok::<_, std::io::Error>(Frame::data(Bytes::from(part.clone()))));
        let decoded = Decoded::new(coding, StreamBody::new(endless), 1 << 20).expect("memory");
        let ended = decoded.collect().now_or_never().expect("all there");
        assert!(ended.is_err(), "{coding:?}");
    }
}

#[test]
fn a_body_of_many_gzip_members_must_hold_something_in_them() {
    let of = |length: usize, count: usize| encode(Coding::Gzip, &[vec![b'x'; length]]).repeat(count);
    let limit = 16 << 20;
    assert_eq!(whole(Coding::Gzip, of(0, 256).into(), limit), Ok(Vec::new()));
    assert_eq!(whole(Coding::Gzip, of(0, 257).into(), limit), Err(Fault::Miscoded));
    assert_eq!(whole(Coding::Gzip, of(1, 10_000).into(), limit), Err(Fault::Miscoded));
    assert_eq!(whole(Coding::Gzip, of(512, 2_000).into(), limit).map(|all| all.len()), Ok(1_024_000));
}

#[test]
fn a_whole_body_is_decoded_up_to_its_limit() {
    for coding in [Coding::Gzip, Coding::Zstd] {
        let coded = encode(coding, &[vec![b'x'; 100_000]]);
        assert_eq!(whole(coding, coded.clone().into(), 100_000).map(|all| all.len()), Ok(100_000));
        assert_eq!(whole(coding, coded.into(), 99_999), Err(Fault::TooLarge));
    }
}

/// A frame of zstd that asks for this window.
fn windowed(log: u32) -> Bytes {
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).expect("in memory");
    encoder.window_log(log).expect("a window that zstd has");
    encoder.write_all(b"lion").expect("in memory");
    encoder.finish().expect("in memory").into()
}

#[test]
fn the_window_of_a_stream_is_bounded_by_the_limit_of_a_message_and_that_of_a_whole_body_by_8_mib() {
    let streamed = |log, limit| {
        let body = http_body_util::Full::new(windowed(log));
        let decoded = Decoded::new(Coding::Zstd, body, limit).expect("memory");
        decoded.collect().now_or_never().expect("all there").is_ok()
    };
    for (limit, log) in [(1 << 10, 21), (1 << 20, 21), (3 << 20, 22), (4 << 20, 22), (1 << 30, 23)] {
        assert!(streamed(log, limit) && !streamed(log + 1, limit), "{limit}");
    }
    assert!(whole(Coding::Zstd, windowed(23), 1 << 10).is_ok());
    assert_eq!(whole(Coding::Zstd, windowed(24), 1 << 30), Err(Fault::Miscoded));
}

#[test]
fn a_streamed_answer_in_zstd_asks_its_receiver_for_a_small_window() {
    let coded = encode(Coding::Zstd, &[b"lion".to_vec()]);
    // The frame header: magic number, a descriptor without a content size, then the window.
    let (descriptor, window) = (coded[4], coded[5]);
    assert_eq!((descriptor & 0b1110_0000, 10 + (window >> 3)), (0, 17));
}
