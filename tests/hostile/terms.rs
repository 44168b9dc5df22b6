//! Messages whose terms are invalid, too large, or not in the protocol of the receiving process.

use super::wire::{Term, atom, int, list, nested, nil, pid, tuple, with, words};
use super::{Expect, Hostile, Row, row};
use Expect::{Answered, Closed, Ignored};

const NO_TERM: Expect = Closed("message that is not a valid term");

/// Encodes a message to a registered name.
fn to(h: &Hostile, name: &str, message: Term) -> Vec<u8> {
    with(&[int(6), h.pid(), atom(""), atom(name)], message)
}

pub fn rows() -> Vec<Row> {
    [lies(), bounds(), services()].into_iter().flatten().collect()
}

/// Bytes that do not decode as a term.
fn lies() -> Vec<Row> {
    let wrong: Vec<(&str, Term)> = vec![
        ("an unknown tag", vec![0]),
        ("the version a second time", vec![131, 106]),
        ("two terms", vec![106, 106]),
        ("a list that is shorter than its length", list(u32::MAX, &[nil()], nil())),
        ("a list without end", list(1, &[nil()], vec![])),
        ("a tuple of 4 Gi elements", vec![105, 0xFF, 0xFF, 0xFF, 0xFF]),
        ("a small tuple without elements", vec![104, 255]),
        ("a map of 4 Gi pairs", vec![116, 0xFF, 0xFF, 0xFF, 0xFF, 106, 106]),
        ("a map with one key twice", [vec![116, 0, 0, 0, 2], vec![97, 1, 106, 97, 1, 106]].concat()),
        ("a binary of 4 GiB", vec![109, 0xFF, 0xFF, 0xFF, 0xFF, 1]),
        ("a bit string of 4 GiB", vec![77, 0xFF, 0xFF, 0xFF, 0xFF, 1]),
        ("a bit string with nine bits in a byte", vec![77, 0, 0, 0, 1, 9, 0xFF]),
        ("a bit string with bits and no byte", vec![77, 0, 0, 0, 0, 3]),
        ("a string that is shorter than its length", vec![107, 0xFF, 0xFF, b'a']),
        ("an integer of 4 GiB", vec![111, 0xFF, 0xFF, 0xFF, 0xFF, 0, 1]),
        ("an integer without its bytes", vec![110, 255, 0]),
        ("an integer of half a word", vec![98, 0, 0]),
        ("a float that is not a number", [vec![70], vec![0xFF; 8]].concat()),
        ("a float of version 5 with an invalid text", [vec![99], vec![b'x'; 31]].concat()),
        ("an atom that is not UTF-8", atom(b"\xC3\x28")),
        ("an atom of 300 bytes", atom([b'a'; 300])),
        ("an atom of 256 characters", atom("\u{E4}".repeat(256))),
        ("an atom of a cache that was not negotiated", vec![82, 0]),
        ("a fun of before OTP 23", vec![117, 0, 0, 0, 0]),
        ("a fun with a wrong size", [vec![112, 0, 0, 0, 5], vec![0; 40]].concat()),
        ("a fun of 4 Gi variables", [vec![112, 0xFF, 0xFF, 0xFF, 0xFF, 0], vec![0; 20], vec![0xFF; 4]].concat()),
        ("an external fun of arity 256", [vec![113], atom("m"), atom("f"), int(256)].concat()),
        ("an external fun of arity -1", [vec![113], atom("m"), atom("f"), int(-1)].concat()),
        ("a pid whose node is a number", [vec![88], int(1), words(&[1, 0, 1])].concat()),
        ("a pid of version 5 in creation 4", [vec![103], atom("n@h"), words(&[1, 0]), vec![4]].concat()),
        ("a port that ends early", [vec![120], atom("n@h"), words(&[1])].concat()),
        ("a reference of 65,535 words that are missing", [vec![90, 0xFF, 0xFF], atom("n@h"), words(&[1])].concat()),
        ("a local term", [vec![121], vec![0; 16]].concat()),
        ("a compressed term", vec![80, 0, 0, 0, 2, 0x78, 0x9C, 0x4B, 0x4C, 0x04, 0x00]),
        ("a compressed term of 4 GiB", vec![80, 0xFF, 0xFF, 0xFF, 0xFF, 0x78, 0x9C, 0xED, 0xC1]),
        ("a compressed term within a tuple", tuple(&[vec![80, 0, 0, 0, 2, 0x78, 0x9C]])),
        ("a compressed term within compressed ones", [80, 0, 0, 0, 9].repeat(1000)),
    ];
    let mut rows: Vec<Row> = Vec::new();
    for (name, term) in wrong {
        rows.push(row(format!("message: {name}"), NO_TERM, move |h| to(h, "net_kernel", term.clone())));
    }
    rows.push(row("message: no version", Closed("begins with byte 106"), |h| {
        let control = tuple(&[int(6), h.pid(), atom(""), atom("rex")]);
        super::wire::frame(&[vec![112, 131], control, nil()].concat())
    }));
    rows.push(row("message: a version and no term", NO_TERM, |h| to(h, "rex", vec![])));
    rows.push(row("message: no term, to an unknown name", NO_TERM, |h| to(h, "nobody", vec![0])));
    rows
}

/// `{'$gen_call', {Pid, Ref}, Request}`
fn call(h: &Hostile, request: Term) -> Term {
    tuple(&[atom("$gen_call"), tuple(&[h.pid(), h.reference(77)]), request])
}

/// Valid terms that exceed the daemon's limits. The message is lost, and a waiting caller gets an
/// error.
fn bounds() -> Vec<Row> {
    let too_large = Answered(22, "too_large");
    let many = || list(1 << 20, &[vec![106; 1 << 20]], nil());
    vec![
        row("a hundred thousand lists in lists", Ignored, |h| to(h, "net_kernel", nested(100_000))),
        row("a hundred thousand tuples in tuples", Ignored, |h| {
            to(h, "rex", [[104, 1].repeat(100_000), nil()].concat())
        }),
        row("a hundred thousand maps in maps", Ignored, |h| {
            to(h, "rex", [[116, 0, 0, 0, 1, 106].repeat(100_000), nil()].concat())
        }),
        row("a hundred thousand tails", Ignored, |h| {
            to(h, "rex", [[108, 0, 0, 0, 1, 106].repeat(100_000), nil()].concat())
        }),
        row("a call with lists in lists", too_large, |h| to(h, "hecate_plugins", call(h, nested(100_000)))),
        row("a million elements", Ignored, move |h| to(h, "net_kernel", many())),
        row("a call with a million elements", too_large, move |h| to(h, "hecate_plugins", call(h, many()))),
        row("a million elements for pg", Closed("pg scope sent a message with too many elements"), move |h| {
            to(h, "pg", tuple(&[atom("join"), h.pid(), atom("g"), many()]))
        }),
    ]
}

/// `{'$gen_cast', Request}`
fn cast(request: Term) -> Term {
    tuple(&[atom("$gen_cast"), request])
}

/// Valid terms that the receiving process does not understand.
fn services() -> Vec<Row> {
    let elsewhere = || pid("elsewhere@host", 1, 1);
    let notsup = Answered(22, "notsup");
    let mut rows = vec![
        row("a call whose tag is a number", Ignored, |h| {
            to(h, "net_kernel", tuple(&[atom("$gen_call"), h.pid(), atom("x")]))
        }),
        row("a call from a process elsewhere", notsup, move |h| {
            to(h, "net_kernel", tuple(&[atom("$gen_call"), tuple(&[elsewhere(), h.reference(1)]), nil()]))
        }),
        row("a ping of a node that is a number", notsup, |h| {
            to(h, "net_kernel", call(h, tuple(&[atom("is_auth"), int(1)])))
        }),
        row("a system message without request", Ignored, |h| to(h, "rex", tuple(&[atom("system"), h.pid()]))),
        row("a registration that is a list", Answered(22, "not_an_object"), |h| {
            to(h, "hecate_plugins", call(h, tuple(&[atom("register"), nil()])))
        }),
        row("a registration whose name is not UTF-8", Answered(22, "field_type"), |h| {
            let name = [vec![116, 0, 0, 0, 1], atom("name"), vec![109, 0, 0, 0, 2, 0xC3, 0x28]].concat();
            to(h, "hecate_plugins", call(h, tuple(&[atom("register"), name])))
        }),
        row("a request for a name of 300 bytes", Answered(22, "error"), |h| {
            let name = [vec![109, 0, 0, 1, 44], vec![b'a'; 300]].concat();
            to(h, "hecate_plugins", call(h, tuple(&[atom("info"), name])))
        }),
        row("a call of rex whose arguments are improper", Answered(22, "badarg"), |h| {
            let args = list(1, &[nil()], atom("x"));
            to(h, "rex", call(h, tuple(&[atom("call"), atom("m"), atom("f"), args, h.pid()])))
        }),
        row("a call of rex whose module is a number", Answered(22, "badarg"), |h| {
            to(h, "rex", call(h, tuple(&[atom("call"), int(1), atom("f"), nil(), h.pid()])))
        }),
    ];
    rows.extend(groups());
    rows.extend(global());
    for name in ["net_kernel", "rex", "pg", "global_name_server", "hecate_plugins", "nobody"] {
        rows.push(row(format!("{name}: any term"), Ignored, move |h| {
            [
                atom("x"),
                int(1),
                nil(),
                tuple(&[]),
                tuple(&[h.pid()]),
                tuple(&[atom("$gen_call")]),
                vec![116, 0, 0, 0, 0],
            ]
            .map(|term| to(h, name, term))
            .concat()
        }));
    }
    rows
}

/// Valid terms that the process groups do not understand.
fn groups() -> Vec<Row> {
    let elsewhere = || pid("elsewhere@host", 1, 1);
    vec![
        row("pg: a discovery by a scope elsewhere", Ignored, move |h| {
            to(h, "pg", tuple(&[atom("discover"), elsewhere()]))
        }),
        row("pg: a scope that is an atom", Ignored, |h| to(h, "pg", tuple(&[atom("discover"), atom("x")]))),
        row("pg: the members of another node leave", Ignored, move |h| {
            let group = tuple(&[atom("hecate_plugin"), vec![109, 0, 0, 0, 1, b'x']]);
            to(h, "pg", tuple(&[atom("leave"), elsewhere(), h.net_kernel(), list(1, &[group], nil())]))
        }),
        row("pg: a join from an unknown scope", Ignored, |h| {
            to(h, "pg", tuple(&[atom("join"), h.pid(), atom("g"), h.pid()]))
        }),
        row("pg: the groups of a scope elsewhere", Ignored, move |h| {
            to(h, "pg", cast(tuple(&[atom("sync"), elsewhere(), nil()])))
        }),
        row("pg: an improper list of groups", Ignored, move |h| {
            let groups = list(1, &[tuple(&[atom("g"), nil()])], atom("x"));
            to(h, "pg", cast(tuple(&[atom("sync"), h.pid(), groups])))
        }),
        row("pg: a message of an unknown kind", Ignored, |h| to(h, "pg", atom("x"))),
    ]
}

/// Valid terms that the name server does not understand.
fn global() -> Vec<Row> {
    vec![
        row("global: init_connect without its locker", Ignored, move |h| {
            let init = tuple(&[atom("init_connect"), tuple(&[int(8), int(1)]), atom(&h.me), atom("x")]);
            to(h, "global_name_server", cast(init))
        }),
        row("global: nodes that are numbers", Ignored, move |h| {
            let locker = tuple(&[atom("locker"), atom("no_longer_a_pid"), list(1, &[int(1)], atom("x")), h.pid()]);
            to(h, "global_name_server", cast(tuple(&[atom("init_connect"), nil(), atom(&h.me), locker])))
        }),
    ]
}
