//! How often the codec allocates for a message, and how many bytes, once its buffers have grown: a table. In a binary of its
//! own, because the allocator that counts is that of the whole process and would slow down what is timed.

use alloc_tracker::{Allocator, Session};
use edge_bench::{DESCRIPTOR_SET, pb, samples};
use prost::Message;
use prost_reflect::DescriptorPool;
use transcoder::codec::{Codec, MessageType};

#[global_allocator]
static ALLOCATOR: Allocator<std::alloc::System> = Allocator::system();

/// Messages in each direction, after one that is not counted.
const ROUNDS: u64 = 1_000;

/// What was allocated for each message.
fn measure(session: &Session, name: &str, mut work: impl FnMut()) -> (f64, f64) {
    work();
    let operation = session.operation(name);
    let span = operation.measure_thread().iterations(ROUNDS);
    for _ in 0..ROUNDS {
        work();
    }
    drop(span);
    let report = session.to_report();
    let measured = report.operations().find(|(measured, _)| *measured == name);
    let (_, measured) = measured.expect("it was measured");
    (measured.allocations().unwrap_or(f64::NAN), measured.bytes().unwrap_or(f64::NAN))
}

#[expect(clippy::print_stdout, reason = "the table is there to be read")]
fn print(codec: &Codec, session: &Session, name: &str, table: MessageType, wire: &[u8]) {
    let mut json = Vec::new();
    let (count, bytes) = measure(session, &format!("{name}, printed"), || {
        json.clear();
        codec.wire_to_json(table, wire, &mut json).expect("a sample");
    });
    println!("| {name} | wire to JSON | {count:.1} | {bytes:.0} |");
    let text = str::from_utf8(&json).expect("JSON is UTF-8");
    let mut back = Vec::new();
    let (count, bytes) = measure(session, &format!("{name}, read"), || {
        back.clear();
        codec.json_to_wire(table, text, &mut back).expect("a sample");
    });
    println!("| {name} | JSON to wire | {count:.1} | {bytes:.0} |");
}

#[expect(clippy::print_stdout, reason = "the table is there to be read")]
fn main() {
    let pool = DescriptorPool::decode(DESCRIPTOR_SET).expect("compiled by the build script");
    let codec = Codec::new(&pool).expect("a valid descriptor set");
    let table = |name: &str| codec.message_type(name).expect("a message of the set");
    let session = Session::new().no_stdout().no_file();
    println!("\nthe codec alone: allocations for each message in steady state");
    println!("| message | direction | allocations | bytes |\n|---|---|---|---|");
    let flight: pb::Flight = samples::flight(1);
    print(&codec, &session, "one flight", table("bench.v1.Flight"), &flight.encode_to_vec());
    let list = samples::list().encode_to_vec();
    print(&codec, &session, "50 flights", table("bench.v1.ListFlightsResponse"), &list);
    let booking = samples::create_booking().encode_to_vec();
    print(&codec, &session, "a booking of 400 bytes", table("bench.v1.CreateBookingRequest"), &booking);
}
