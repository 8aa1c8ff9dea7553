//! How often the codec allocates once its buffers have grown: never. In a binary of its own, because the allocator that
//! counts is that of the whole process.

use std::path::Path;

use alloc_tracker::{Allocator, Session};
use prost_reflect::DescriptorPool;
use transcoder::codec::Codec;

#[global_allocator]
static ALLOCATOR: Allocator<std::alloc::System> = Allocator::system();

/// One message with every kind of field that is common, and a map with many keys.
fn common() -> String {
    let labels: Vec<String> = (0..40).map(|key| format!(r#""key{key}":"v""#)).collect();
    format!(
        r#"{{"doubleValue":1.5,"floatValue":0.25,"int32Value":-7,"int64Value":"-9007199254740993","uint64Value":"18446744073709551615",
            "sint64Value":1e3,"fixed64Value":"120.0","boolValue":true,"stringValue":"plain","bytesValue":"AQIDBA==","diet":"CARNIVORE",
            "child":{{"stringValue":"with \"escapes\" and é\n","child":{{"int32s":[1,2,3]}}}},"doubles":[1.0,"NaN",2e10],
            "strings":["a","\u00e9\ud83d\ude00","c"],"blobs":["AQ=="],"diets":["HERBIVORE",2],
            "children":[{{"boolValue":true}},{{"labels":{{"x":"y"}}}}],"labels":{{{}}},"counts":{{"-1":"5","2":7}},
            "byId":{{"7":{{"labels":{{"a":"b","c":"d"}}}},"8":{{}}}},"times":{{"t":"1970-01-01T00:00:01Z"}},"chosenInt32":3,
            "timestamp":"2026-11-21T15:00:00.5Z","duration":"-1.5s","mask":"displayName,home.city","struct":{{"a":[1,{{"b":null}}]}},
            "value":{{"x":[true]}},"any":{{"@type":"type.googleapis.com/zoo.v1.Animal","displayName":"Leo"}},"int64Wrapper":"5",
            "stringWrapper":"w"}}"#,
        labels.join(",")
    )
}

/// Allocations of `work`, after it was done once to let its buffers grow.
fn allocations(session: &Session, name: &str, mut work: impl FnMut()) -> u64 {
    const ROUNDS: u64 = 10;
    work();
    let operation = session.operation(name);
    let span = operation.measure_thread().iterations(ROUNDS);
    for _ in 0..ROUNDS {
        work();
    }
    drop(span);
    let report = session.to_report();
    let measured = report.operations().find(|(measured, _)| *measured == name);
    measured.expect("it was measured").1.total_allocations_count()
}

#[test]
fn the_codec_does_not_allocate_in_steady_state() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut compiler = protox::Compiler::new([root.join("tests/proto"), root.join("proto/third_party")])
        .expect("the folders exist");
    compiler.include_imports(true).open_file("zoo.proto").expect("it compiles");
    let pool =
        DescriptorPool::decode(compiler.encode_file_descriptor_set().as_slice()).expect("protox wrote it");
    let codec = Codec::new(&pool).expect("a valid set");
    let message = codec.message_type("zoo.v1.Everything").expect("in zoo.proto");
    let session = Session::new().no_stdout().no_file();

    let text = common();
    let mut wire = Vec::new();
    let reading = allocations(&session, "JSON to wire", || {
        wire.clear();
        codec.json_to_wire(message, &text, &mut wire).expect("valid JSON");
    });
    let mut json = Vec::new();
    let printing = allocations(&session, "wire to JSON", || {
        json.clear();
        codec.wire_to_json(message, &wire, &mut json).expect("valid wire bytes");
    });
    assert_eq!((reading, printing), (0, 0), "allocations of 10 messages, read and printed");
    // What counts does count.
    assert_eq!(allocations(&session, "a box", || drop(std::hint::black_box(Box::new(1_u64)))), 10);
}
