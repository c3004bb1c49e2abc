//! Nanoseconds per operation of what lies on every message's way: `cargo bench -p natterjack-wire`.
//!
//! The input is a read buffer of many frames, decoded from front to back as a session does it, so that
//! branch prediction and cache see what they see in the server. One iteration is one whole buffer; the
//! figure to read is the throughput in elements, which are frames.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use natterjack_wire::client::{
    ClientOp, Decoded, Limits, decode_client, decode_server, header_publish, message_head, publish,
    subscribe,
};
use natterjack_wire::route::{self, MessageHead, RemoteSubscribe, RouteLimits, decode_route};
use natterjack_wire::s2::{Compressor, Decompressor, Effort};

/// Frames in one buffer: with 16 bytes each some 64 KiB, a usual read.
const FRAMES: usize = 1500;

fn decode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("decode_client");
    group.throughput(Throughput::Elements(FRAMES as u64));
    let reply = Some(&b"_INBOX.Xk29fLq0aZpT7mWnBv3cRd.1"[..]);
    let header = b"NATS/1.0\r\nTrace-Id: 0123456789abcdef\r\n\r\n";
    let cases: [(&str, Vec<u8>); 6] = [
        (
            "PUB 16 B",
            frames(|out, _| publish(out, b"bench.subject", None, &[b'x'; 16])),
        ),
        (
            "PUB 128 B",
            frames(|out, _| publish(out, b"bench.subject", None, &[b'x'; 128])),
        ),
        (
            "PUB 16 B, subjects vary",
            frames(|out, n| publish(out, subject(n), None, &[b'x'; 16])),
        ),
        (
            "PUB 16 B, reply",
            frames(|out, _| publish(out, b"bench.subject", reply, &[b'x'; 16])),
        ),
        (
            "HPUB 40 + 128 B",
            frames(|out, _| header_publish(out, b"bench.subject", None, header, &[b'x'; 128])),
        ),
        (
            "SUB",
            frames(|out, n| subscribe(out, subject(n), None, b"12345")),
        ),
    ];
    for (name, input) in &cases {
        group.bench_function(*name, |bencher| {
            bencher.iter(|| decode_all(black_box(input)))
        });
    }
    // The start of a frame is known only once the one before is decoded. With the starts known beforehand the
    // processor may overlap frames, as it overlaps decoding with the work on the frame before in a server.
    let starts = frame_starts(&cases[0].1);
    group.bench_function("PUB 16 B, starts known", |bencher| {
        let limits = black_box(Limits::default());
        let input = black_box(cases[0].1.as_slice());
        bencher.iter(|| {
            for &start in &starts {
                if let Ok(Decoded::Op {
                    op: ClientOp::Publish(publish),
                    ..
                }) = decode_client(&input[start..], &limits)
                {
                    black_box(publish.subject);
                    black_box(publish.body);
                }
            }
        });
    });
    group.finish();
}

fn decode_messages(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("decode_server");
    group.throughput(Throughput::Elements(FRAMES as u64));
    let input = frames(|out, _| {
        message_head(out, b"bench.subject", b"1", None, b"16");
        out.extend_from_slice(b"xxxxxxxxxxxxxxxx\r\n");
    });
    group.bench_function("MSG 16 B", |bencher| {
        bencher.iter(|| {
            let limits = Limits::FROM_SERVER;
            let mut rest = black_box(input.as_slice());
            while let Ok(Decoded::Op { op, consumed }) = decode_server(rest, &limits) {
                black_box(op);
                rest = &rest[consumed..];
            }
            assert!(rest.is_empty());
        });
    });
    group.finish();
}

fn decode_routes(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("decode_route");
    group.throughput(Throughput::Elements(FRAMES as u64));
    let reply = Some(&b"_INBOX.Xk29fLq0aZpT7mWnBv3cRd.1"[..]);
    let queues: &[&[u8]] = &[b"workers", b"audit"];
    let message = |head: MessageHead<'_>| {
        frames(|out, _| {
            head.write(out);
            out.extend_from_slice(b"xxxxxxxxxxxxxxxx\r\n");
        })
    };
    let plain = ROUTED;
    let cases: [(&str, Vec<u8>); 5] = [
        ("RMSG 16 B", message(plain)),
        ("RMSG 16 B, reply", message(MessageHead { reply, ..plain })),
        (
            "RMSG 16 B, reply, 2 queue groups",
            message(MessageHead {
                reply,
                queues,
                ..plain
            }),
        ),
        (
            "HMSG 4 + 12 B",
            message(MessageHead {
                header_len_text: Some(b"4"),
                ..plain
            }),
        ),
        (
            "RS+",
            frames(|out, n| {
                let interest = RemoteSubscribe {
                    origin: None,
                    account: Some(b"$G"),
                    subject: subject(n),
                    queue: None,
                };
                route::subscribe(out, &interest);
            }),
        ),
    ];
    for (name, input) in &cases {
        group.bench_function(*name, |bencher| {
            bencher.iter(|| {
                let limits = black_box(RouteLimits::default());
                let mut rest = black_box(input.as_slice());
                while let Ok(Decoded::Op { op, consumed }) = decode_route(rest, &limits) {
                    black_box(op);
                    rest = &rest[consumed..];
                }
                assert!(rest.is_empty());
            });
        });
    }
    group.finish();
}

/// Lines of routes of which the payload is half noise, in writes of 64 KiB.
fn compress(criterion: &mut Criterion) {
    let mut noise = 1_u64;
    let input = frames(|out, n| {
        let mut payload = [b'x'; 128];
        for byte in &mut payload[..64] {
            noise = noise
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            *byte = (noise >> 56) as u8;
        }
        MessageHead {
            subject: subject(n),
            total_len_text: b"128",
            ..ROUTED
        }
        .write(out);
        out.extend_from_slice(&payload);
        out.extend_from_slice(b"\r\n");
    });
    let mut group = criterion.benchmark_group("s2");
    group.throughput(Throughput::Bytes(input.len() as u64));
    for (name, effort) in [("stored", Effort::Stored), ("fast", Effort::Fast)] {
        let mut compressor = Compressor::new(effort);
        let mut out = Vec::new();
        group.bench_function(format!("compress, {name}"), |bencher| {
            bencher.iter(|| {
                out.clear();
                compressor.write(black_box(&input), &mut out);
                black_box(&out);
            });
        });
        let mut stream = Vec::new();
        Compressor::new(effort).write(&input, &mut stream);
        group.bench_function(format!("decompress, {name}"), |bencher| {
            bencher.iter(|| {
                out.clear();
                let mut decompressor = Decompressor::default();
                let mut rest = black_box(stream.as_slice());
                while let Ok(Decoded::Op { consumed, .. }) = decompressor.read(rest, &mut out) {
                    rest = &rest[consumed..];
                }
                assert_eq!(out.len(), input.len());
            });
        });
    }
    group.finish();
}

fn encode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("encode");
    group.throughput(Throughput::Elements(FRAMES as u64));
    let reply = Some(&b"_INBOX.Xk29fLq0aZpT7mWnBv3cRd.1"[..]);
    for (name, reply) in [("message_head", None), ("message_head, reply", reply)] {
        let mut out = Vec::with_capacity(FRAMES * 128);
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                out.clear();
                for _ in 0..FRAMES {
                    message_head(
                        &mut out,
                        black_box(b"bench.subject"),
                        black_box(b"17"),
                        black_box(reply),
                        black_box(b"16"),
                    );
                }
                black_box(&out);
            });
        });
    }
    for (name, reply) in [("route", None), ("route, reply", reply)] {
        let mut out = Vec::with_capacity(FRAMES * 128);
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                out.clear();
                for _ in 0..FRAMES {
                    black_box(MessageHead { reply, ..ROUTED }).write(&mut out);
                }
                black_box(&out);
            });
        });
    }
    group.finish();
}

/// The shortest line of a message.
const ROUTED: MessageHead<'_> = MessageHead {
    origin: None,
    account: Some(b"$G"),
    subject: b"bench.subject",
    reply: None,
    queues: &[],
    header_len_text: None,
    total_len_text: b"16",
};

/// What a session does with a batch, but for the routing.
fn decode_all(input: &[u8]) -> usize {
    let limits = black_box(Limits::default());
    let mut rest = input;
    let mut bytes = 0;
    while let Ok(Decoded::Op { op, consumed }) = decode_client(rest, &limits) {
        match op {
            ClientOp::Publish(publish) => {
                bytes += black_box(publish.subject).len() + black_box(publish.body).len();
            }
            other => {
                black_box(other);
            }
        }
        rest = &rest[consumed..];
    }
    assert!(rest.is_empty(), "every frame decodes");
    bytes
}

fn frame_starts(input: &[u8]) -> Vec<usize> {
    let mut starts = Vec::new();
    let mut start = 0;
    while let Ok(Decoded::Op { consumed, .. }) = decode_client(&input[start..], &Limits::default())
    {
        starts.push(start);
        start += consumed;
    }
    starts
}

fn frames(mut write: impl FnMut(&mut Vec<u8>, usize)) -> Vec<u8> {
    let mut out = Vec::new();
    for number in 0..FRAMES {
        write(&mut out, number);
    }
    out
}

/// Subjects of several lengths, so that a branch per length cannot be learnt from one frame to the next.
fn subject(number: usize) -> &'static [u8] {
    const SUBJECTS: [&[u8]; 7] = [
        b"a",
        b"dev.sensor.4711.temperature",
        b"orders.new",
        b"bench.subject",
        b"telemetry.eu-west.rack-17.host-3",
        b"foo.bar",
        b"events.audit.login",
    ];
    SUBJECTS[(number * 31 + number / 7 * 5) % SUBJECTS.len()]
}

criterion_group!(
    benches,
    decode,
    decode_messages,
    decode_routes,
    compress,
    encode
);
criterion_main!(benches);
