//! The codec alone, wire bytes to JSON and JSON to wire bytes: the transcoder's tables, `prost-reflect` with `serde_json`, and generated types
//! with `pbjson` and `serde_json`.

use std::hint::black_box;

use criterion::{
    BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main, measurement::WallTime,
};
use edge_bench::{DESCRIPTOR_SET, pb, samples};
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor};
use serde::{Serialize, de::DeserializeOwned};
use transcoder::codec::{Codec, MessageType};

/// A message of the measured service, in every form.
struct Subject {
    codec: Codec,
    table: MessageType,
    descriptor: MessageDescriptor,
    wire: Vec<u8>,
    json: String,
}

impl Subject {
    fn new<T: Message + Serialize>(name: &str, message: &T) -> Self {
        let pool = DescriptorPool::decode(DESCRIPTOR_SET).expect("compiled by the build script");
        let codec = Codec::new(&pool).expect("a valid descriptor set");
        let table = codec.message_type(name).expect("a message of the set");
        let descriptor = pool.get_message_by_name(name).expect("a message of the set");
        let wire = message.encode_to_vec();
        let mut json = Vec::new();
        codec.wire_to_json(table, &wire, &mut json).expect("a sample");
        Self { codec, table, descriptor, wire, json: String::from_utf8(json).expect("JSON is UTF-8") }
    }
}

fn print<T: Message + Serialize + Default>(group: &mut BenchmarkGroup<'_, WallTime>, subject: &Subject) {
    let mut out = Vec::with_capacity(subject.json.len() * 2);
    group.bench_function("tables", |bencher| {
        bencher.iter(|| {
            out.clear();
            subject.codec.wire_to_json(subject.table, black_box(&subject.wire), &mut out).expect("a sample");
        });
    });
    group.bench_function("prost-reflect", |bencher| {
        bencher.iter(|| {
            out.clear();
            let message = DynamicMessage::decode(subject.descriptor.clone(), black_box(&*subject.wire));
            serde_json::to_writer(&mut out, &message.expect("a sample")).expect("a sample");
        });
    });
    group.bench_function("generated", |bencher| {
        bencher.iter(|| {
            out.clear();
            let message = T::decode(black_box(&*subject.wire)).expect("a sample");
            serde_json::to_writer(&mut out, &message).expect("a sample");
        });
    });
}

fn parse<T: Message + DeserializeOwned>(group: &mut BenchmarkGroup<'_, WallTime>, subject: &Subject) {
    let mut out = Vec::with_capacity(subject.wire.len() * 2);
    group.bench_function("tables", |bencher| {
        bencher.iter(|| {
            out.clear();
            subject.codec.json_to_wire(subject.table, black_box(&subject.json), &mut out).expect("a sample");
        });
    });
    group.bench_function("prost-reflect", |bencher| {
        bencher.iter(|| {
            out.clear();
            let mut json = serde_json::Deserializer::from_str(black_box(&subject.json));
            let message = DynamicMessage::deserialize(subject.descriptor.clone(), &mut json);
            message.expect("a sample").encode(&mut out).expect("the buffer grows");
        });
    });
    group.bench_function("generated", |bencher| {
        bencher.iter(|| {
            out.clear();
            let message: T = serde_json::from_str(black_box(&subject.json)).expect("a sample");
            message.encode(&mut out).expect("the buffer grows");
        });
    });
}

fn codec(criterion: &mut Criterion) {
    let flight = Subject::new("bench.v1.Flight", &samples::flight(1));
    let list = Subject::new("bench.v1.ListFlightsResponse", &samples::list());
    let request = Subject::new("bench.v1.CreateBookingRequest", &samples::create_booking());
    let length = |subject: &Subject| u64::try_from(subject.json.len()).map(Throughput::Bytes).expect("small");

    let mut group = criterion.benchmark_group("wire to JSON, one flight");
    print::<pb::Flight>(group.throughput(length(&flight)), &flight);
    group.finish();
    let mut group = criterion.benchmark_group("wire to JSON, 50 flights");
    print::<pb::ListFlightsResponse>(group.throughput(length(&list)), &list);
    group.finish();
    let mut group = criterion.benchmark_group("JSON to wire, a booking");
    parse::<pb::CreateBookingRequest>(group.throughput(length(&request)), &request);
    group.finish();
    let mut group = criterion.benchmark_group("JSON to wire, 50 flights");
    parse::<pb::ListFlightsResponse>(group.throughput(length(&list)), &list);
    group.finish();
}

criterion_group!(benches, codec);
criterion_main!(benches);
