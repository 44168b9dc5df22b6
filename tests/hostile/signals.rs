//! Frames and control messages that are invalid, or valid and impossible to carry out.

use super::wire::{alone, atom, frame, int, list, nested, nil, pid, reference, tuple, with, words};
use super::{Expect, Hostile, Row, row};
use Expect::{Answered, Closed, HungUp, Ignored};

const MALFORMED: Expect = Closed("malformed control message");

pub fn rows() -> Vec<Row> {
    [frames(), shapes(), types(), payloads(), ties(), exits(), aliases(), spawns()].into_iter().flatten().collect()
}

fn frames() -> Vec<Row> {
    let announced = Closed("announced a frame of");
    let body = |body: &'static [u8]| move |_: &Hostile| frame(body);
    vec![
        row("a frame of 4 GiB less a byte", announced, |_| vec![0xFF; 4]),
        row("a frame of 2 GiB", announced, |_| vec![0x80, 0, 0, 0]),
        row("a frame of one byte too many", announced, |_| words(&[u32::try_from(beam::limits::FRAME + 1).unwrap()])),
        row("half a length", HungUp, |_| vec![0, 0]),
        row("a frame that ends early", HungUp, |_| [words(&[100]), vec![112, 131]].concat()),
        row("ten thousand ticks", Ignored, |_| vec![0; 40_000]),
        row("a tick with a body", announced, |_| b"\0\0\0\0body".to_vec()),
        row("a tick between two halves of a frame", Closed("of type 0"), |_| [words(&[8, 0]), vec![1; 4]].concat()),
        row("a distribution header", Closed("of type 131"), body(&[131, 68, 0, 131, 104, 1, 97, 5])),
        row("a distribution header with a cache entry", Closed("of type 131"), body(&[131, 68, 1, 8, 0, 1, b'a'])),
        row(
            "the first fragment of two",
            Closed("of type 131"),
            body(&[131, 69, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2, 0]),
        ),
        row(
            "a fragment of nothing",
            Closed("of type 131"),
            body(&[131, 70, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 1]),
        ),
        row("a compressed frame", Closed("of type 131"), body(&[131, 80, 0xFF, 0xFF, 0xFF, 0xFF, 0x78, 0x9C])),
        row("a frame of version 5 without pass-through", Closed("of type 104"), body(&[104, 1, 97, 5])),
        row("a frame of one byte", MALFORMED, body(&[112])),
        row("a control message without version", Closed("begins with byte 104"), body(&[112, 104, 1, 97, 5])),
        row("a control message of version 130", Closed("begins with byte 130"), body(&[112, 130, 104, 1, 97, 5])),
    ]
}

/// Control messages with an invalid shape.
fn shapes() -> Vec<Row> {
    let none = Closed("unknown control message");
    let body = |body: &'static [u8]| move |_: &Hostile| frame(body);
    let mut rows = vec![
        row("a control message that is a number", MALFORMED, body(&[112, 131, 97, 5])),
        row("a control message that is a list", MALFORMED, body(&[112, 131, 107, 0, 1, 5])),
        row("a control message that is a map", MALFORMED, body(&[112, 131, 116, 0, 0, 0, 0])),
        row("an empty control message", MALFORMED, body(&[112, 131, 104, 0])),
        row("an operation that is an atom", MALFORMED, |h| alone(&[atom("link"), h.pid(), h.ours(1)])),
        row("an operation beyond 64 bits", MALFORMED, body(&[112, 131, 104, 1, 110, 9, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1])),
        row("an operation of 4 GiB", MALFORMED, body(&[112, 131, 104, 1, 111, 0xFF, 0xFF, 0xFF, 0xFF, 0, 1])),
        row("4 Gi fields", MALFORMED, body(&[112, 131, 105, 0xFF, 0xFF, 0xFF, 0xFF, 97, 1])),
        row("fields in a large tuple", Answered(24, "noproc"), |h| {
            frame(&[vec![112, 131, 105, 0, 0, 0, 3], int(1), h.pid(), h.ours(9999)].concat())
        }),
        row("compressed fields", Closed("compressed"), |h| alone(&[int(1), vec![80, 0, 0, 0, 9, 0x78], h.ours(1)])),
        row("nesting in an unused field", MALFORMED, |h| with(&[int(2), nested(100_000), h.net_kernel()], nil())),
        row("nesting in a trace token", MALFORMED, |h| {
            with(&[int(12), atom(""), h.net_kernel(), nested(10_000)], nil())
        }),
    ];
    for operation in [-1, 0, 9, 10, 11, 14, 15, 17, 38, 99, 255, i32::MAX, i32::MIN] {
        rows.push(row(format!("operation {operation}"), none, move |h| {
            alone(&[int(operation), h.pid(), h.ours(1), h.reference(1)])
        }));
    }
    for operation in (1..=8).chain([12, 13, 16]).chain(18..=37) {
        rows.push(row(format!("operation {operation} with two fields"), none, move |h| {
            alone(&[int(operation), h.pid()])
        }));
        rows.push(row(format!("operation {operation} with eight fields"), none, move |h| {
            alone(&[vec![int(operation)], vec![h.pid(); 7]].concat())
        }));
    }
    rows
}

/// The number of fields of each operation that has a fixed number.
const FIELDS: &[(i32, usize)] = &[
    (1, 3),
    (2, 3),
    (3, 4),
    (4, 3),
    (6, 4),
    (7, 3),
    (8, 4),
    (12, 4),
    (13, 5),
    (16, 5),
    (18, 5),
    (19, 4),
    (20, 4),
    (21, 5),
    (22, 3),
    (23, 4),
    (24, 3),
    (25, 4),
    (26, 3),
    (27, 4),
    (28, 4),
    (29, 6),
    (30, 7),
    (31, 5),
    (32, 6),
    (33, 3),
    (34, 4),
    (35, 4),
    (36, 4),
    (37, 4),
];

fn types() -> Vec<Row> {
    let mut rows = Vec::new();
    for &(operation, fields) in FIELDS {
        let name = format!("operation {operation} with maps for fields");
        rows.push(row(name, MALFORMED, move |_| {
            with(&[vec![int(operation)], vec![vec![116, 0, 0, 0, 0]; fields - 1]].concat(), nil())
        }));
        // The payload is not cut, so the decoder reads it as the missing field.
        let name = format!("operation {operation} with a field too few");
        rows.push(row(name, MALFORMED, move |h| {
            let fields = [vec![int(operation)], vec![h.pid(); fields - 2]].concat().concat();
            let count = u8::try_from(FIELDS.iter().find(|(o, _)| *o == operation).unwrap().1).unwrap();
            frame(&[vec![112, 131, 104, count], fields].concat())
        }));
    }
    rows.push(row("a pid of 2 GiB", MALFORMED, |h| alone(&[int(1), vec![88, 118, 0xFF, 0xFF], h.ours(1)])));
    rows.push(row("a pid with an invalid creation", MALFORMED, |h| {
        alone(&[int(1), [vec![103], atom(&h.me), words(&[1, 0]), vec![9]].concat(), h.ours(1)])
    }));
    rows.push(row("a port for a pid", MALFORMED, |h| {
        alone(&[int(1), [vec![89], atom(&h.me), words(&[1, 0])].concat(), h.ours(1)])
    }));
    rows.push(row("a reference without words", MALFORMED, |h| {
        alone(&[int(19), h.pid(), atom("rex"), reference(&h.me, &[], 7)])
    }));
    rows.push(row("a reference of six words", MALFORMED, |h| {
        alone(&[int(19), h.pid(), atom("rex"), reference(&h.me, &[1; 6], 7)])
    }));
    rows.push(row("a reference of 65,535 words", MALFORMED, |h| {
        alone(&[int(19), h.pid(), atom("rex"), reference(&h.me, &[1; 65_535], 7)])
    }));
    rows.push(row("a reference whose words are missing", MALFORMED, |h| {
        alone(&[int(19), h.pid(), atom("rex"), [vec![90, 0, 5], atom(&h.me), words(&[7, 1])].concat()])
    }));
    rows.push(row("a name that is not UTF-8", Closed("not UTF-8"), |h| {
        with(&[int(6), h.pid(), atom(""), atom(b"\xFF\xFE")], nil())
    }));
    rows.push(row("a name of 300 bytes", Closed("atom of more than"), |h| {
        with(&[int(6), h.pid(), atom(""), atom([b'a'; 300])], nil())
    }));
    rows.push(row("a name of 255 characters in 1,020 bytes", Ignored, |h| {
        with(&[int(6), h.pid(), atom(""), atom("\u{1F600}".repeat(255))], nil())
    }));
    rows.push(row("a name of no bytes", Ignored, |h| with(&[int(6), h.pid(), atom(""), atom("")], nil())));
    rows.push(row("a node name of no bytes", Answered(24, "noproc"), |h| {
        alone(&[int(1), pid("", 1, 1), h.ours(9999)])
    }));
    rows.push(row("a name in Latin-1", Ignored, |h| {
        with(&[int(6), h.pid(), atom(""), vec![115, 2, 0xE4, 0xFF]], nil())
    }));
    rows
}

fn payloads() -> Vec<Row> {
    let mut rows = Vec::new();
    let without = Closed("without a payload");
    rows.push(row("SEND without payload", without, |h| alone(&[int(2), atom(""), h.net_kernel()])));
    rows.push(row("SEND_SENDER without payload", without, |h| alone(&[int(22), h.pid(), h.net_kernel()])));
    rows.push(row("REG_SEND without payload", without, |h| alone(&[int(6), h.pid(), atom(""), atom("rex")])));
    rows.push(row("ALIAS_SEND without payload", without, |h| alone(&[int(33), h.pid(), h.reference(1)])));
    rows.push(row("ALTACT_SIG_SEND without payload", without, |h| alone(&[int(37), int(0), h.pid(), h.net_kernel()])));
    rows.push(row("PAYLOAD_EXIT without payload", without, |h| alone(&[int(24), h.pid(), h.net_kernel()])));
    rows.push(row("PAYLOAD_EXIT2 without payload", without, |h| alone(&[int(26), h.pid(), h.net_kernel()])));
    rows.push(row("PAYLOAD_MONITOR_P_EXIT without payload", without, |h| {
        alone(&[int(28), h.pid(), h.net_kernel(), h.reference(1)])
    }));
    rows.push(row("SPAWN_REQUEST without payload", without, |h| {
        let mfa = tuple(&[atom("m"), atom("f"), int(0)]);
        alone(&[int(29), h.reference(1), h.pid(), h.pid(), mfa, nil()])
    }));
    let with_one = Closed("with a payload");
    rows.push(row("LINK with payload", with_one, |h| with(&[int(1), h.pid(), h.net_kernel()], nil())));
    rows.push(row("UNLINK_ID with payload", with_one, |h| with(&[int(35), int(1), h.pid(), h.net_kernel()], nil())));
    rows.push(row("MONITOR_P with payload", with_one, |h| {
        with(&[int(19), h.pid(), atom("rex"), h.reference(1)], nil())
    }));
    rows.push(row("EXIT with payload", with_one, |h| with(&[int(3), h.pid(), h.net_kernel(), atom("x")], nil())));
    rows.push(row("SPAWN_REPLY with payload", with_one, |h| {
        with(&[int(31), h.reference(1), h.pid(), int(0), h.pid()], nil())
    }));
    rows
}

/// Links and monitors of invalid targets, and the end of links and monitors that never existed.
fn ties() -> Vec<Row> {
    let noproc = Answered(28, "noproc");
    vec![
        row("NODE_LINK", Ignored, |_| alone(&[int(5)])),
        row("GROUP_LEADER", Ignored, |h| alone(&[int(7), h.pid(), h.net_kernel()])),
        row("GROUP_LEADER of a process elsewhere", Ignored, |_| {
            alone(&[int(7), pid("elsewhere@host", 1, 1), pid("elsewhere@host", 2, 1)])
        }),
        row("GROUP_LEADER that is a number", MALFORMED, |h| alone(&[int(7), int(1), h.net_kernel()])),
        row("GROUP_LEADER of a name", MALFORMED, |h| alone(&[int(7), h.pid(), atom("rex")])),
        row("UNLINK without a link", Ignored, |h| alone(&[int(4), h.pid(), h.net_kernel()])),
        row("UNLINK_ID without a link", Answered(36, ""), |h| alone(&[int(35), int(1), h.pid(), h.net_kernel()])),
        row("UNLINK_ID of an unknown process", Answered(36, ""), |h| alone(&[int(35), int(0), h.pid(), h.ours(9999)])),
        row("UNLINK_ID with a number of a hundred bytes", Answered(36, ""), |h| {
            alone(&[int(35), [vec![110, 100, 0], vec![1; 100]].concat(), h.pid(), h.net_kernel()])
        }),
        row("UNLINK_ID with an atom", MALFORMED, |h| alone(&[int(35), atom("x"), h.pid(), h.net_kernel()])),
        row("UNLINK_ID_ACK without a request", Ignored, |h| alone(&[int(36), int(1), h.pid(), h.net_kernel()])),
        row("DEMONITOR_P without a monitor", Ignored, |h| alone(&[int(20), h.pid(), h.net_kernel(), h.reference(1)])),
        row("DEMONITOR_P of an unknown name", Ignored, |h| alone(&[int(20), h.pid(), atom("nobody"), h.reference(1)])),
        row("MONITOR_P of an unknown name", noproc, |h| alone(&[int(19), h.pid(), atom("nobody"), h.reference(1)])),
        row("MONITOR_P of a name without letters", noproc, |h| alone(&[int(19), h.pid(), atom(""), h.reference(1)])),
        row("MONITOR_P of another incarnation of the daemon", noproc, |h| {
            alone(&[int(19), h.pid(), pid(&h.us, 1, h.creation ^ 1), h.reference(1)])
        }),
        row("MONITOR_P of a process elsewhere", noproc, |h| {
            alone(&[int(19), h.pid(), pid("elsewhere@host", 1, 1), h.reference(1)])
        }),
        row("MONITOR_P of its own process", noproc, |h| alone(&[int(19), h.pid(), h.pid(), h.reference(1)])),
        row("MONITOR_P of a reference", MALFORMED, |h| alone(&[int(19), h.pid(), h.reference(2), h.reference(1)])),
        row("MONITOR_P twice with one reference", Ignored, |h| {
            alone(&[int(19), h.pid(), atom("rex"), h.reference(1)]).repeat(2)
        }),
        row("MONITOR_P for a process elsewhere", Ignored, |h| {
            alone(&[int(19), pid("elsewhere@host", 1, 1), atom("rex"), h.reference(1)])
        }),
        row("LINK to a process elsewhere", Answered(24, "noproc"), |h| {
            alone(&[int(1), h.pid(), pid("elsewhere@host", 1, 1)])
        }),
        row("LINK from a process elsewhere", Ignored, |h| {
            alone(&[int(1), pid("elsewhere@host", 1, 1), h.net_kernel()])
        }),
        row("LINK from a process of the daemon", Ignored, |h| alone(&[int(1), h.net_kernel(), h.net_kernel()])),
    ]
}

fn exits() -> Vec<Row> {
    let kill = || atom("kill");
    vec![
        row("EXIT without a link", Ignored, |h| alone(&[int(3), h.pid(), h.net_kernel(), atom("crash")])),
        row("EXIT of a process elsewhere", Ignored, move |h| {
            alone(&[int(3), pid("elsewhere@host", 1, 1), h.net_kernel(), kill()])
        }),
        row("EXIT of a process of the daemon", Ignored, move |h| {
            alone(&[int(3), h.net_kernel(), h.net_kernel(), kill()])
        }),
        row("PAYLOAD_EXIT to an unknown process", Ignored, |h| with(&[int(24), h.pid(), h.ours(9999)], atom("crash"))),
        row("PAYLOAD_EXIT with an invalid reason", MALFORMED, |h| {
            with(&[int(24), h.pid(), h.net_kernel()], list(u32::MAX, &[], nil()))
        }),
        row("PAYLOAD_EXIT with two reasons", MALFORMED, |h| with(&[int(24), h.pid(), h.net_kernel()], vec![106, 106])),
        row("EXIT2 with kill for another incarnation of the daemon", Ignored, move |h| {
            alone(&[int(8), h.pid(), pid(&h.us, 1, h.creation ^ 1), kill()])
        }),
        row("EXIT2 with kill from elsewhere", Ignored, move |h| {
            alone(&[int(8), pid("elsewhere@host", 1, 1), h.net_kernel(), kill()])
        }),
        row("EXIT2 with a reason that is a map", Ignored, |h| {
            with(&[int(26), h.pid(), h.net_kernel()], vec![116, 0, 0, 0, 0])
        }),
        row("MONITOR_P_EXIT without a monitor", Ignored, |h| {
            alone(&[int(21), h.pid(), h.net_kernel(), h.reference(1), atom("crash")])
        }),
        row("MONITOR_P_EXIT without a monitor by the daemon", Ignored, |h| {
            with(&[int(28), atom("rex"), h.net_kernel(), reference(&h.us, &[1, 0, 0], h.creation)], atom("x"))
        }),
        row("SPAWN_REPLY without a request", Ignored, |h| {
            alone(&[int(31), h.reference(1), h.net_kernel(), int(3), h.pid()])
        }),
        row("SPAWN_REPLY with an error and without a request", Ignored, |h| {
            alone(&[int(31), reference(&h.us, &[1, 0, 0], h.creation), h.net_kernel(), int(0), atom("notsup")])
        }),
        row("SPAWN_REPLY with flags below zero", MALFORMED, |h| {
            alone(&[int(31), h.reference(1), h.net_kernel(), int(-1), h.pid()])
        }),
    ]
}

fn aliases() -> Vec<Row> {
    let altact = |flags: i32| move |h: &Hostile| with(&[int(37), int(flags), h.pid(), h.net_kernel()], atom("x"));
    vec![
        row("ALIAS_SEND to its own alias", Ignored, |h| with(&[int(33), h.pid(), h.reference(1)], atom("x"))),
        row("ALIAS_SEND to an alias elsewhere", Ignored, |h| {
            with(&[int(33), h.pid(), reference("elsewhere@host", &[1, 2, 3], 1)], atom("x"))
        }),
        row("ALIAS_SEND to a possible alias of the daemon", Ignored, |h| {
            with(&[int(33), h.pid(), reference(&h.us, &[1, 0, 0], h.creation)], atom("x"))
        }),
        row("ALTACT_SIG_SEND with a missing token", MALFORMED, altact(2)),
        row("ALTACT_SIG_SEND to an alias that is a pid", MALFORMED, altact(4)),
        row("ALTACT_SIG_SEND to a name that is a pid", MALFORMED, altact(8)),
        row("ALTACT_SIG_SEND with unknown flags", Ignored, altact(1 << 20)),
        row("ALTACT_SIG_SEND that is an exit", Ignored, altact(16)),
        row("SEND to a process elsewhere", Ignored, |_| {
            with(&[int(2), atom(""), pid("elsewhere@host", 1, 1)], atom("x"))
        }),
        row("SEND to an unknown process", Ignored, |h| with(&[int(2), atom(""), h.ours(9999)], atom("x"))),
        row("SEND to another incarnation of the daemon", Ignored, |h| {
            with(&[int(2), atom(""), pid(&h.us, 1, h.creation ^ 1)], atom("x"))
        }),
        row("SEND with a cookie of version 5", Ignored, |h| with(&[int(2), atom("cookie"), h.net_kernel()], atom("x"))),
    ]
}

fn spawns() -> Vec<Row> {
    fn spawn(h: &Hostile, arity: i32, options: Vec<u8>, args: Vec<u8>) -> Vec<u8> {
        let mfa = tuple(&[atom("erlang"), atom("halt"), int(arity)]);
        with(&[int(29), h.reference(1), h.pid(), h.pid(), mfa, options], args)
    }
    let option = |option: Vec<u8>| list(1, &[option], nil());
    let (spawned, refused) = (Answered(31, "hecate"), Answered(31, "notsup"));
    let badopt = Answered(31, "badopt");
    vec![
        row("SPAWN_REQUEST with options that are a number", badopt, |h| spawn(h, 0, int(1), nil())),
        row("SPAWN_REQUEST with an improper list of options", badopt, |h| {
            spawn(h, 0, list(1, &[atom("link")], atom("monitor")), nil())
        }),
        row("SPAWN_REQUEST with an unknown option", spawned, move |h| spawn(h, 0, option(atom("bogus")), nil())),
        row("SPAWN_REQUEST with options nested too deeply", MALFORMED, |h| spawn(h, 0, nested(10_000), nil())),
        row("SPAWN_REQUEST with arguments that are a number", spawned, |h| spawn(h, 0, nil(), int(1))),
        row("SPAWN_REQUEST with arguments shorter than their length", refused, |h| {
            spawn(h, 0, nil(), list(u32::MAX, &[], nil()))
        }),
        row("SPAWN_REQUEST with compressed arguments", refused, |h| spawn(h, 0, nil(), vec![80, 0, 0, 0, 9, 0x78])),
        row("SPAWN_REQUEST with more arguments than its arity", spawned, |h| spawn(h, 0, nil(), vec![107, 0, 2, 1, 1])),
        row("SPAWN_REQUEST of arity -1", MALFORMED, |h| spawn(h, -1, nil(), nil())),
        row("SPAWN_REQUEST of arity 256", MALFORMED, |h| spawn(h, 256, nil(), nil())),
        row("SPAWN_REQUEST of a function that is an atom", MALFORMED, |h| {
            with(&[int(29), h.reference(1), h.pid(), h.pid(), atom("halt"), nil()], nil())
        }),
        row("SPAWN_REQUEST of erpc with too few arguments", refused, |h| {
            let mfa = tuple(&[atom("erpc"), atom("execute_call"), int(4)]);
            with(&[int(29), h.reference(1), h.pid(), h.pid(), mfa, nil()], nil())
        }),
    ]
}
