//! Tests of frames from a real node, of forms that only old nodes send, and of malformed frames.

use super::*;
use crate::dist::flags::{ALTACT_SIG, HEADERS};
use crate::etf::{Iovec, Term};

mod properties;

/// Returns the flags that are agreed upon with a node without headers, a node that also lacks
/// payloads and senders, and a node of OTP 28.
fn flag_sets() -> [Flags; 3] {
    let all = crate::dist::flags::ours(false);
    let without = |flags: Flags| Flags::from_bits_truncate(all.bits() & !flags.bits());
    [without(ALTACT_SIG | HEADERS), without(ALTACT_SIG | Flags::EXIT_PAYLOAD | Flags::SEND_SENDER), all]
}

fn frame(control: &Control, payload: Option<&Raw>, flags: Flags) -> Bytes {
    let mut out = Vec::new();
    let payload = payload.cloned().map(Iovec::from);
    encode(control, payload.as_ref(), flags, &mut out);
    let (length, frame) = out.split_first_chunk::<4>().expect("a length");
    assert_eq!(usize::try_from(u32::from_be_bytes(*length)), Ok(frame.len()));
    Bytes::copy_from_slice(frame)
}

fn decoded(frame: &Bytes) -> Result<Option<(Control, Option<Bytes>)>, ControlError> {
    decode(frame, None, &mut Atoms::new())
}

/// Decodes a frame that was encoded for these flags.
fn decoded_with(flags: Flags, frame: &Bytes) -> Result<Decoded, ControlError> {
    decode(frame, Headers::new(flags).as_mut(), &mut Atoms::new())
}

fn raw(term: &Term) -> Raw {
    Raw::encode(term)
}

#[test]
fn a_peer_receives_only_signals_that_it_understands() {
    let monitor = Control::Monitor { from: fake(1), to: Proc::Pid(fake(2)), reference: fake_reference(3) };
    let send = Control::Send { from: None, to: fake(2) };
    // The flags of `ei` 5.3 and of jinterface 1.13.1. `ei` has the flag for monitors of pids, but
    // not the flag for monitors of names.
    for bits in [0x4_0707_4F9C, 0x4_0707_0F94] {
        let flags = Flags::from_bits_truncate(bits);
        assert!(!monitor.is_known_with(flags) && send.is_known_with(flags), "{bits:#x}");
    }
    assert!(flag_sets().iter().all(|flags| monitor.is_known_with(*flags)));
    let reason = Raw::encode(&Term::atom("noproc"));
    let ended = Control::MonitorExit { from: Proc::Pid(fake(2)), to: fake(1), reference: fake_reference(3), reason };
    assert!(ended.is_known_with(Flags::from_bits_truncate(0)), "only a peer that sends monitors receives it");
}

// ---- What a real node sends ---------------------------------------------------------------------

/// Frames of an OTP 25 node, without their lengths. Made by
/// `ERL_EPMD_PORT=4399 epmd & ERL_EPMD_PORT=4399 escript src/beam/dist/control/capture.escript`.
#[rustfmt::skip]
const GOLDEN: &[(&str, &str)] = &[
    ("LINK", "70836803610158770e7265616c406c6f63616c686f737400000009000000006b0419f958770e66616b65406c6f63616c686f737400000001000000000000004d"),
    ("UNLINK_ID", "708368046123610458770e7265616c406c6f63616c686f737400000009000000006b0419f958770e66616b65406c6f63616c686f737400000001000000000000004d"),
    ("MONITOR_P", "70836804611358770e7265616c406c6f63616c686f737400000009000000006b0419f958770e66616b65406c6f63616c686f737400000001000000000000004d5a0003770e7265616c406c6f63616c686f73746b0419f90001152f367000014efc7e44"),
    ("DEMONITOR_P", "70836804611458770e7265616c406c6f63616c686f737400000009000000006b0419f958770e66616b65406c6f63616c686f737400000001000000000000004d5a0003770e7265616c406c6f63616c686f73746b0419f90001152f367000014efc7e44"),
    ("MONITOR_P by name", "70836804611358770e7265616c406c6f63616c686f737400000009000000006b0419f977046e616d655a0003770e7265616c406c6f63616c686f73746b0419f900011534367000014efc7e44"),
    ("DEMONITOR_P by name", "70836804611458770e7265616c406c6f63616c686f737400000009000000006b0419f977046e616d655a0003770e7265616c406c6f63616c686f73746b0419f900011534367000014efc7e44"),
    ("SEND_SENDER", "70836803611658770e7265616c406c6f63616c686f737400000009000000006b0419f958770e66616b65406c6f63616c686f737400000001000000000000004d83770568656c6c6f"),
    ("REG_SEND", "70836804610658770e7265616c406c6f63616c686f737400000009000000006b0419f9770077046e616d6583770568656c6c6f"),
    ("ALIAS_SEND", "70836803612158770e7265616c406c6f63616c686f737400000009000000006b0419f95a0003770e66616b65406c6f63616c686f73740000004d00000007000000000000000083770568656c6c6f"),
    ("PAYLOAD_EXIT2", "70836803611a58770e7265616c406c6f63616c686f737400000009000000006b0419f958770e66616b65406c6f63616c686f737400000001000000000000004d837703627965"),
    ("SPAWN_REQUEST", "70836806611d5a0003770e7265616c406c6f63616c686f73746b0419f900011541367000014efc7e4458770e7265616c406c6f63616c686f737400000009000000006b0419f958770e7265616c406c6f63616c686f737400000047000000006b0419f9680377016d77016661026c0000000177076d6f6e69746f726a836c0000000277016161016a"),
    ("SPAWN_REPLY badopt", "70836805611f5a0003770e66616b65406c6f63616c686f73740000004d00000008000000000000000058770e66616b65406c6f63616c686f737400000001000000000000004d610077066261646f7074"),
    ("SPAWN_REPLY", "70836805611f5a0003770e66616b65406c6f63616c686f73740000004d00000009000000000000000058770e66616b65406c6f63616c686f737400000001000000000000004d610058770e7265616c406c6f63616c686f73740000005a000000006b0419f9"),
    ("PAYLOAD_EXIT", "70836803611858770e7265616c406c6f63616c686f73740000005b000000006b0419f958770e66616b65406c6f63616c686f737400000001000000000000004d837703627965"),
    ("PAYLOAD_MONITOR_P_EXIT", "70836804611c58770e7265616c406c6f63616c686f73740000005c000000006b0419f958770e66616b65406c6f63616c686f737400000001000000000000004d5a0003770e66616b65406c6f63616c686f73740000004d0000000b000000000000000083680277036279656101"),
    ("PAYLOAD_MONITOR_P_EXIT by name", "70836804611c77056f7468657258770e66616b65406c6f63616c686f737400000001000000000000004d5a0003770e66616b65406c6f63616c686f73740000004d0000000c00000000000000008377066e6f726d616c"),
    ("UNLINK_ID_ACK", "7083680461246e0500ffffffffff58770e7265616c406c6f63616c686f73740000005e000000006b0419f958770e66616b65406c6f63616c686f737400000001000000000000004d"),
];

fn unhex(text: &str) -> Bytes {
    let byte = |at| u8::from_str_radix(&text[at..at + 2], 16).expect("hexadecimal");
    (0..text.len()).step_by(2).map(byte).collect()
}

fn fake(id: u32) -> Pid {
    Pid { node: Atom::literal("fake@localhost"), id, serial: 0, creation: 77 }
}

fn fake_reference(id: u32) -> Reference {
    Reference { node: Atom::literal("fake@localhost"), creation: 77, ids: [id, 0, 0].into() }
}

#[test]
fn signals_of_a_real_node_are_decoded_and_encoded_alike() {
    let [flags, ..] = flag_sets();
    for (name, hex) in GOLDEN {
        let golden = unhex(hex);
        let (control, payload) = decoded(&golden).unwrap_or_else(|e| panic!("{name}: {e}")).expect("not ignored");
        let payload = payload.map(|p| Reader::new(&p, &mut Atoms::new()).raw().unwrap());
        assert_eq!(frame(&control, payload.as_ref(), flags), golden, "{name}");
        check_meaning(name, &control, payload.as_ref());
    }
}

/// Checks the meaning of each golden frame: each pid and reference of the fake node has one place
/// in it.
fn check_meaning(name: &str, control: &Control, payload: Option<&Raw>) {
    let us = fake(1);
    let named = Proc::Name(Atom::literal("name"));
    let (bye, hello) = (raw(&Term::atom("bye")), raw(&Term::atom("hello")));
    let right = match control {
        Control::Link { from, to } => name == "LINK" && *to == us && from.node == "real@localhost",
        Control::Unlink { id: Some(id), to, .. } => name == "UNLINK_ID" && *to == us && !id.bytes().is_empty(),
        Control::UnlinkAck { id, from, to } => {
            name == "UNLINK_ID_ACK" && *to == us && *from != us && *id == raw(&Term::Int(0xFF_FFFF_FFFF))
        }
        Control::Monitor { to, .. } => match name {
            "MONITOR_P" => *to == Proc::Pid(us),
            _ => name == "MONITOR_P by name" && *to == named,
        },
        Control::Demonitor { to, .. } => match name {
            "DEMONITOR_P" => *to == Proc::Pid(us),
            _ => name == "DEMONITOR_P by name" && *to == named,
        },
        Control::Send { from: Some(from), to } => name == "SEND_SENDER" && *to == us && *from != us,
        Control::SendName { to, .. } => name == "REG_SEND" && *to == "name",
        Control::SendAlias { to, .. } => name == "ALIAS_SEND" && *to == fake_reference(7),
        Control::Exit2 { to, reason, .. } => name == "PAYLOAD_EXIT2" && *to == us && *reason == bye,
        Control::Exit { from, to, reason } => name == "PAYLOAD_EXIT" && *to == us && *from != us && *reason == bye,
        Control::SpawnRequest { new, .. } => {
            let NewProcess { module, function, arity, options, .. } = &**new;
            let monitor = raw(&Term::List(vec![Term::atom("monitor")]));
            name == "SPAWN_REQUEST"
                && (*module == "m", *function == "f", *arity) == (true, true, 2)
                && *options == monitor
        }
        Control::SpawnReply { request, to, result, .. } => match name {
            "SPAWN_REPLY" => *request == fake_reference(9) && *to == us && result.is_ok(),
            _ => *request == fake_reference(8) && *result == Err(Atom::literal("badopt")),
        },
        Control::MonitorExit { from, to, reference, reason } => match from {
            Proc::Pid(from) => {
                let end = raw(&Term::tuple([Term::atom("bye"), Term::Int(1)]));
                *from != us && *to == us && *reference == fake_reference(11) && *reason == end
            }
            Proc::Name(from) => *from == "other" && *to == us && *reference == fake_reference(12),
        },
        _ => false,
    };
    assert!(right, "{name} was decoded as {control:?}");
    let message = match name {
        "SEND_SENDER" | "REG_SEND" | "ALIAS_SEND" => Some(hello),
        "SPAWN_REQUEST" => Some(raw(&Term::List(vec![Term::atom("a"), Term::Int(1)]))),
        _ => None,
    };
    assert_eq!(payload, message.as_ref(), "the payload of {name}");
}

// ---- Forms that only old or traced nodes send ---------------------------------------------------

/// Returns a frame of this control tuple, with or without a payload.
fn by_hand(elements: &[Term], payload: Option<&Term>) -> Bytes {
    let mut out = vec![PASS_THROUGH];
    out.extend(Term::tuple(elements).encode());
    out.extend(payload.map(Term::encode).unwrap_or_default());
    out.into()
}

#[test]
fn old_and_traced_forms_mean_the_same() {
    let (a, b, alias) = (fake(1), fake(2), fake_reference(3));
    let reason = raw(&Term::atom("bye"));
    let exit = Control::Exit { from: a.clone(), to: b.clone(), reason: reason.clone() };
    let exit2 = Control::Exit2 { from: a.clone(), to: b.clone(), reason };
    let unlink = Control::Unlink { id: None, from: a.clone(), to: b.clone() };
    same(2, "_t", true, &Control::Send { from: None, to: b.clone() });
    same(12, "_tk", true, &Control::Send { from: None, to: b.clone() });
    let send = Control::Send { from: Some(a.clone()), to: b.clone() };
    same(23, "ftk", true, &send);
    let to = Atom::literal("name");
    same(16, "f_nk", true, &Control::SendName { from: a.clone(), to });
    let to = alias.clone();
    same(34, "frk", true, &Control::SendAlias { from: a.clone(), to });
    // Flags of ALTACT_SIG_SEND: 1 priority, 2 token, 4 alias, 8 name, 16 exit.
    same(37, "0ft", true, &send);
    same(37, "1ft", true, &send);
    same(37, "3ftk", true, &send);
    let to = alias.clone();
    same(37, "4fr", true, &Control::SendAlias { from: a.clone(), to });
    let to = Atom::literal("name");
    same(37, "9fn", true, &Control::SendName { from: a.clone(), to });
    same(37, "Eft", true, &exit2);
    let to = alias.clone();
    same(37, "Xfr", true, &Control::SendAlias { from: a.clone(), to });
    same(3, "fte", false, &exit);
    same(13, "ftke", false, &exit);
    same(25, "ftk", true, &exit);
    same(8, "fte", false, &exit2);
    same(18, "ftke", false, &exit2);
    same(27, "ftk", true, &exit2);
    same(4, "ft", false, &unlink);
    let new = NewProcess {
        group_leader: b.clone(),
        module: Atom::literal("m"),
        function: Atom::literal("f"),
        arity: 1,
        options: raw(&Term::List(vec![])),
    };
    let spawn = Control::SpawnRequest { request: alias.clone(), from: a.clone(), new: new.into() };
    same(30, "rftmok", true, &spawn);
    let reply = Control::SpawnReply { request: alias, to: b, flags: 1, result: Ok(a) };
    same(32, "rt1fk", false, &reply);
}

/// Checks that a tuple of the operation and these fields decodes to this signal. The letters are
/// from, to, reference, name, token, reason, mfa, options.
fn same(operation: i64, fields: &str, payload: bool, meaning: &Control) {
    let field = |letter| match letter {
        'f' => Term::Pid(fake(1)),
        't' => Term::Pid(fake(2)),
        'r' => Term::Reference(fake_reference(3)),
        'n' => Term::atom("name"),
        'k' => Term::atom("token"),
        'e' => Term::atom("bye"),
        'm' => Term::tuple([Term::atom("m"), Term::atom("f"), Term::Int(1)]),
        'o' => Term::List(vec![]),
        'E' => Term::Int(16 | 1),
        'X' => Term::Int(16 | 4),
        '0'..='9' => Term::Int(i64::from(letter.to_digit(10).expect("a digit"))),
        _ => Term::atom(""),
    };
    let tuple: Vec<Term> = [Term::Int(operation)].into_iter().chain(fields.chars().map(field)).collect();
    let bye = Term::atom("bye");
    let (back, back_payload) = decoded(&by_hand(&tuple, payload.then_some(&bye))).unwrap().expect("not ignored");
    assert_eq!(back, *meaning, "operation {operation}");
    let reason = matches!(back, Control::Exit { .. } | Control::Exit2 { .. });
    let expected = (payload && !reason).then(|| raw(&bye).bytes().clone());
    assert_eq!(back_payload, expected, "operation {operation}");
}

#[test]
fn signals_without_effect_are_ignored() {
    assert_eq!(decoded(&by_hand(&[Term::Int(5)], None)), Ok(None));
    let group_leader = [Term::Int(7), Term::Pid(fake(1)), Term::Pid(fake(2))];
    assert_eq!(decoded(&by_hand(&group_leader, None)), Ok(None));
}

// ---- Malformed frames -------------------------------------------------------------------------

#[test]
fn frames_with_headers_and_fragments_are_refused() {
    for kind in [131, 68, 69, 70, 0] {
        assert_eq!(decoded(&Bytes::from(vec![kind, 0])), Err(ControlError::NotPassThrough(kind)));
    }
    assert_eq!(decoded(&Bytes::new()), Err(ControlError::NotPassThrough(0)));
}

#[test]
fn unknown_operations_and_arities_are_refused() {
    let pid = Term::Pid(fake(1));
    let known = [
        1, 2, 3, 4, 5, 6, 7, 8, 12, 13, 16, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36,
        37,
    ];
    for operation in (-1..=255).filter(|operation| !known.contains(operation)) {
        for arity in 1..8 {
            let mut tuple = vec![pid.clone(); arity];
            tuple[0] = Term::Int(operation);
            let refused = decoded(&by_hand(&tuple, None));
            assert!(matches!(refused, Err(ControlError::Unknown { operation: o, .. }) if o == operation));
        }
    }
    for (operation, arity) in
        [(1, 2), (1, 4), (2, 5), (22, 4), (19, 3), (35, 3), (29, 7), (31, 6), (5, 2), (37, 3), (37, 6)]
    {
        let mut tuple = vec![pid.clone(); arity];
        tuple[0] = Term::Int(operation);
        let refused = Err(ControlError::Unknown { operation, arity: u32::try_from(arity).unwrap() });
        assert_eq!(decoded(&by_hand(&tuple, None)), refused);
    }
}

#[test]
fn fields_of_other_types_are_refused() {
    let (pid, name, int) = (Term::Pid(fake(1)), Term::atom("name"), Term::Int(1));
    let reference = Term::Reference(fake_reference(1));
    let mfa = |arity| Term::tuple([name.clone(), name.clone(), Term::Int(arity)]);
    let malformed = |tuple: &[&Term], payload: Option<&Term>| {
        let tuple: Vec<Term> = tuple.iter().map(|term| (*term).clone()).collect();
        let refused = decoded(&by_hand(&tuple, payload));
        assert!(matches!(refused, Err(ControlError::Malformed(_))), "{tuple:?}: {refused:?}");
    };
    let op = Term::Int;
    malformed(&[&name, &pid, &pid], None);
    malformed(&[&op(1), &pid, &name], None);
    malformed(&[&op(1), &reference, &pid], None);
    malformed(&[&op(22), &pid, &reference], Some(&int));
    malformed(&[&op(6), &pid, &name, &pid], Some(&int));
    malformed(&[&op(33), &pid, &pid], Some(&int));
    malformed(&[&op(7), &int, &pid], None);
    malformed(&[&op(7), &pid, &name], None);
    malformed(&[&op(19), &pid, &int, &reference], None);
    malformed(&[&op(19), &pid, &name, &pid], None);
    malformed(&[&op(35), &name, &pid, &pid], None);
    malformed(&[&op(36), &reference, &pid, &pid], None);
    malformed(&[&op(29), &reference, &pid, &pid, &name, &int], Some(&int));
    malformed(&[&op(29), &reference, &pid, &pid, &mfa(256), &int], Some(&int));
    malformed(&[&op(29), &reference, &pid, &pid, &mfa(-1), &int], Some(&int));
    malformed(&[&op(31), &reference, &pid, &op(-1), &pid], None);
    malformed(&[&op(31), &reference, &pid, &op(1 << 32), &pid], None);
    malformed(&[&op(31), &reference, &pid, &op(0), &int], None);
    malformed(&[&op(37), &op(2), &pid, &pid], Some(&int));
    malformed(&[&op(37), &op(0), &pid, &pid, &name], Some(&int));
    malformed(&[&op(37), &op(4), &pid, &pid], Some(&int));
    malformed(&[&op(37), &op(8), &pid, &pid], Some(&int));
    malformed(&[&op(37), &op(16), &pid, &reference], Some(&int));
    assert!(matches!(decoded(&by_hand(&[], None)), Err(ControlError::Malformed(_))));
    let mut no_tuple = vec![PASS_THROUGH];
    no_tuple.extend(name.encode());
    assert!(matches!(decoded(&no_tuple.into()), Err(ControlError::Malformed(_))));
}

#[test]
fn only_operations_with_payloads_accept_one() {
    let (pid, message) = (Term::Pid(fake(1)), Term::atom("hello"));
    let link = [Term::Int(1), pid.clone(), pid.clone()];
    assert_eq!(decoded(&by_hand(&link, Some(&message))), Err(ControlError::Payload(1, "with")));
    let exit = [Term::Int(3), pid.clone(), pid.clone(), message.clone()];
    assert_eq!(decoded(&by_hand(&exit, Some(&message))), Err(ControlError::Payload(3, "with")));
    for operation in [22, 24, 26] {
        let tuple = [Term::Int(operation), pid.clone(), pid.clone()];
        assert_eq!(decoded(&by_hand(&tuple, None)), Err(ControlError::Payload(operation, "without")));
    }
    // The reason of an exit is exactly one term.
    let exit = [Term::Int(24), pid.clone(), pid];
    let mut twice = by_hand(&exit, Some(&message)).to_vec();
    twice.extend(message.encode());
    let refused = decoded(&twice.into());
    assert!(matches!(refused, Err(ControlError::Malformed(DecodeError::TrailingBytes(_)))));
}
