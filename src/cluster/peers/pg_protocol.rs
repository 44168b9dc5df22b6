//! Decides which peers must not connect to each other. If the `pg` of OTP 29 discovers the `pg` of
//! OTP 25 (`{discover, Pid, 1}`), the older `pg` exits. A node that runs its `pg` under its kernel
//! then exits too. Connected nodes connect to each other's peers. So two nodes must not connect if
//! one is connected to an old node and the other to a new node. Pure.

/// The protocol of a node's `pg`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PgProtocol {
    /// OTP 26 and earlier: it exits when a new one discovers it. (Only tested with OTP 25.)
    Old,
    /// OTP 27 and 28, and nodes without a release of OTP.
    Either,
    /// OTP 29 and later.
    New,
}

impl PgProtocol {
    /// Returns the protocol of an OTP release, such as `25`; [`Self::Either`] without a release.
    #[must_use]
    pub fn of_release(release: Option<&str>) -> Self {
        match release.and_then(|release| release.parse::<u32>().ok()) {
            Some(..27) => Self::Old,
            Some(29..) => Self::New,
            Some(_) | None => Self::Either,
        }
    }
}

/// The protocols of a node and of the nodes to which it is connected.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Contacts {
    /// One of the nodes is old.
    pub old: bool,
    /// One of the nodes is new.
    pub new: bool,
    /// One of the nodes is not our peer.
    pub unknown: bool,
}

impl Contacts {
    /// Returns the contacts of a node that is connected to these.
    pub fn of(nodes: impl Iterator<Item = Option<PgProtocol>>) -> Self {
        nodes.fold(Self::default(), |contacts, node| match node {
            Some(pg) => contacts.with(pg),
            None => Self { unknown: true, ..contacts },
        })
    }

    /// Adds a node with this protocol.
    #[must_use]
    pub fn with(self, pg: PgProtocol) -> Self {
        Self { old: self.old || pg == PgProtocol::Old, new: self.new || pg == PgProtocol::New, ..self }
    }

    /// Returns whether an introduction of these peers could connect an old node to a new one.
    #[must_use]
    pub fn endangers(self, other: Self) -> bool {
        let meets = |one: Self, other: Self| one.old && other.new;
        let may_meet = |one: Self, other: Self| one.unknown && (other.old || other.new);
        meets(self, other) || meets(other, self) || may_meet(self, other) || may_meet(other, self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_protocol_follows_from_the_release() {
        for (release, pg) in [
            (Some("25"), PgProtocol::Old),
            (Some("26"), PgProtocol::Old),
            (Some("27"), PgProtocol::Either),
            (Some("28"), PgProtocol::Either),
            (Some("29"), PgProtocol::New),
            (Some("30"), PgProtocol::New),
            (Some("R16B03"), PgProtocol::Either),
            (None, PgProtocol::Either),
        ] {
            assert_eq!(PgProtocol::of_release(release), pg, "{release:?}");
        }
    }

    #[test]
    fn old_and_new_nodes_are_not_connected_through_others() {
        let contacts = |nodes: &[Option<PgProtocol>]| Contacts::of(nodes.iter().copied());
        let (old, new, either) =
            ([PgProtocol::Old, PgProtocol::New, PgProtocol::Either]).map(|pg| contacts(&[Some(pg)])).into();
        let unknown = contacts(&[None]);
        for (one, other, endangers) in [
            (old, new, true),
            (old, old, false),
            (new, new, false),
            (old, either, false),
            (new, either, false),
            (unknown, either, false),
            (unknown, old, true),
            (unknown, new, true),
        ] {
            assert_eq!((one.endangers(other), other.endangers(one)), (endangers, endangers), "{one:?} {other:?}");
        }
    }
}
