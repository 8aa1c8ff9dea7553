use std::io::Write as _;

use bytes::Bytes;
use flate2::write::GzEncoder;
use futures::FutureExt as _;
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use proptest::prelude::*;

use super::{Coding, Decoded, Encoder};

/// What a body in these pieces decodes to; `None` when it is not what its coding says.
fn decode(coding: Coding, pieces: Vec<Vec<u8>>) -> Option<Vec<u8>> {
    let frames = pieces.into_iter().map(|piece| Ok::<_, std::io::Error>(Frame::data(Bytes::from(piece))));
    let body = StreamBody::new(futures::stream::iter(frames));
    let decoded = Decoded::new(coding, body).expect("memory for a decoder");
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
            Decoded::new(coding, StreamBody::new(futures::stream::iter(frames))).expect("memory");
        let mut sum = 0;
        while let Some(frame) = decoded.frame().now_or_never().expect("all there") {
            let length = frame.expect("whole").into_data().expect("data").len();
            assert!(length <= 300_000, "{coding:?}: {length}");
            sum += length;
        }
        assert_eq!(sum, zeroes.len(), "{coding:?}");
    }
}
