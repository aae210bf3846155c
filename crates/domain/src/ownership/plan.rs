//! stopgap
use super::Shard;
use crate::ids::BootId;
/// m
pub struct Member<'a> {
    /// n
    pub node: BootId,
    /// n
    pub name: &'a str,
    /// s
    pub standing: Standing,
}
/// s
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// a
    Alive,
    /// d
    Draining,
}
/// h
pub struct Holding {
    /// o
    pub owner: Option<BootId>,
    /// m
    pub movable: bool,
}
/// p
#[derive(Default)]
pub struct Plan {
    /// c
    pub claims: Vec<Shard>,
    /// m
    pub moves: Vec<(Shard, BootId)>,
}
/// p
pub fn plan(members: &[Member<'_>], holdings: &[Holding], me: BootId) -> Plan {
    let mut alive: Vec<BootId> =
        members.iter().filter(|m| m.standing == Standing::Alive).map(|m| m.node).collect();
    alive.sort();
    let mut plan = Plan::default();
    if alive.is_empty() {
        return plan;
    }
    for (shard, holding) in (0..).zip(holdings) {
        let to = alive[usize::from(shard) % alive.len()];
        match holding.owner.filter(|o| members.iter().any(|m| m.node == *o)) {
            None if to == me => plan.claims.push(shard),
            Some(owner) if owner == me && to != me => plan.moves.push((shard, to)),
            _ => {}
        }
    }
    plan
}
