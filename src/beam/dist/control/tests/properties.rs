//! Properties: every signal survives encoding, and any change of a frame results in a signal or an
//! error.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::etf::ReferenceIds;

fn atom() -> impl Strategy<Value = Atom> {
    prop_oneof!["[a-z_@]{0,12}", "\\PC{0,8}"].prop_map(|text| Atom::new(&text).expect("short"))
}

fn pid() -> impl Strategy<Value = Pid> {
    (atom(), any::<[u32; 3]>()).prop_map(|(node, [id, serial, creation])| Pid { node, id, serial, creation })
}

fn reference() -> impl Strategy<Value = Reference> {
    (atom(), any::<u32>(), vec(any::<u32>(), 1..=5)).prop_map(|(node, creation, ids)| Reference {
        node,
        creation,
        ids: ReferenceIds::new(&ids).expect("one to five words"),
    })
}

fn proc() -> impl Strategy<Value = Proc> {
    prop_oneof![pid().prop_map(Proc::Pid), atom().prop_map(Proc::Name)]
}

fn term() -> impl Strategy<Value = Raw> {
    let leaf = prop_oneof![
        any::<i64>().prop_map(Term::Int),
        atom().prop_map(Term::Atom),
        vec(any::<u8>(), 0..9).prop_map(Term::binary),
        pid().prop_map(Term::Pid),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![vec(inner.clone(), 0..4).prop_map(Term::Tuple), vec(inner, 0..4).prop_map(Term::List)]
    })
    .prop_map(|term| raw(&term))
}

fn unlink_id() -> impl Strategy<Value = Raw> {
    any::<[u8; 9]>().prop_map(|bytes| raw(&Term::integer(false, Bytes::copy_from_slice(&bytes))))
}

/// A signal, and the payload that belongs to it.
fn signal() -> impl Strategy<Value = (Control, Option<Raw>)> {
    let alone = prop_oneof![
        (pid(), pid()).prop_map(|(from, to)| Control::Link { from, to }),
        (proptest::option::of(unlink_id()), pid(), pid()).prop_map(|(id, from, to)| Control::Unlink { id, from, to }),
        (unlink_id(), pid(), pid()).prop_map(|(id, from, to)| Control::UnlinkAck { id, from, to }),
        (pid(), pid(), term()).prop_map(|(from, to, reason)| Control::Exit { from, to, reason }),
        (pid(), pid(), term()).prop_map(|(from, to, reason)| Control::Exit2 { from, to, reason }),
        (pid(), proc(), reference()).prop_map(|(from, to, reference)| Control::Monitor { from, to, reference }),
        (pid(), proc(), reference()).prop_map(|(from, to, reference)| Control::Demonitor { from, to, reference }),
        (proc(), pid(), reference(), term()).prop_map(|(from, to, reference, reason)| Control::MonitorExit {
            from,
            to,
            reference,
            reason,
        }),
        (reference(), pid(), any::<u32>(), pid()).prop_map(|(request, to, flags, pid)| Control::SpawnReply {
            request,
            to,
            flags,
            result: Ok(pid),
        }),
        (reference(), pid(), any::<u32>(), atom()).prop_map(|(request, to, flags, why)| Control::SpawnReply {
            request,
            to,
            flags,
            result: Err(why),
        }),
    ];
    let mfa = (atom(), atom(), any::<u8>());
    let spawn = (reference(), pid(), pid(), mfa, term());
    let spawn = spawn.prop_map(|(request, from, group_leader, (module, function, arity), options)| {
        let new = NewProcess { group_leader, module, function, arity, options };
        Control::SpawnRequest { request, from, new: new.into() }
    });
    let with_payload = prop_oneof![
        (proptest::option::of(pid()), pid()).prop_map(|(from, to)| Control::Send { from, to }),
        (pid(), atom()).prop_map(|(from, to)| Control::SendName { from, to }),
        (pid(), reference()).prop_map(|(from, to)| Control::SendAlias { from, to }),
        spawn,
    ];
    prop_oneof![
        alone.prop_map(|control| (control, None)),
        (with_payload, term()).prop_map(|(control, payload)| (control, Some(payload))),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn every_signal_survives_encoding((control, payload) in signal()) {
        for flags in flag_sets() {
            let (back, back_payload) = decoded_with(flags, &frame(&control, payload.as_ref(), flags)).unwrap().unwrap();
            match (&control, &back) {
                // The old form of a send does not name the sender.
                (Control::Send { to, .. }, Control::Send { from: None, to: back }) => prop_assert_eq!(to, back),
                _ => prop_assert_eq!(&control, &back),
            }
            let expected = payload.as_ref().map(|raw| raw.bytes().to_vec());
            prop_assert_eq!(back_payload.map(|bytes| bytes.to_vec()), expected);
        }
    }

    /// A changed frame results in a signal or an error.
    #[test]
    fn mutated_frames_never_panic(
        (control, payload) in signal(),
        flags in prop::sample::select(flag_sets().to_vec()),
        changes in vec((any::<prop::sample::Index>(), any::<u8>(), 0..3), 1..4),
    ) {
        let mut bytes = frame(&control, payload.as_ref(), flags).to_vec();
        for (at, byte, how) in changes {
            let at = at.index(bytes.len());
            match how {
                0 => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                _ => bytes.truncate(at.max(1)),
            }
        }
        if let Ok(Some((control, payload))) = decoded_with(flags, &bytes.into()) {
            // A decoded signal can be encoded again.
            let payload = payload.and_then(|p| Reader::new(&p, &mut Atoms::new()).raw().ok());
            for flags in flag_sets() {
                frame(&control, payload.as_ref(), flags);
            }
        }
    }

    #[test]
    fn a_frame_that_is_cut_is_an_error((control, payload) in signal()) {
        for flags in flag_sets() {
            let whole = frame(&control, payload.as_ref(), flags);
            // The payload is not decoded here, so only its presence is checked.
            let end = whole.len() - payload.as_ref().map_or(0, |raw| raw.bytes().len());
            for cut in 0..end {
                prop_assert!(decoded_with(flags, &whole.slice(..cut)).is_err(), "cut at {} of {:?}", cut, control);
            }
        }
    }
}
