//! The members of a pool: configured addresses, and the backends that DNS returns for configured names.

use crate::{
    config::{BackendAddress, DnsName, Scheme},
    net::dns::{DnsAnswer, DnsQuery, Endpoint, MAX_ENDPOINTS},
    upstream::{
        backend::{Backend, Backends},
        member::{Member, MemberConfig},
    },
};
use std::sync::Arc;

/// The members of a pool. Immutable: a DNS answer leads to a new value.
#[derive(Debug)]
pub(crate) struct PoolMembers {
    groups: Vec<MemberGroup>,
    /// The members that are configured or in DNS, without duplicates.
    current: Vec<Arc<Member>>,
    /// Backends that are no longer in DNS, while leases on them are held or a drain is ordered.
    removed: Vec<Arc<Member>>,
}

/// One configured entry and its members.
#[derive(Debug, Clone)]
struct MemberGroup {
    config: Arc<MemberConfig>,
    discovery: Discovery,
}

#[derive(Debug, Clone)]
enum Discovery {
    /// DNS has not answered yet.
    Pending,
    /// DNS has answered, but has returned no address so far.
    Empty,
    Members(Vec<Arc<Member>>),
}

/// What a DNS answer has changed.
#[derive(Debug, Default)]
pub struct MembershipChange {
    /// Backends that accept sessions and requests from now on.
    pub added: Vec<Arc<Backend>>,
    /// Backends that no longer accept sessions and requests.
    pub removed: Vec<Arc<Backend>>,
    /// Whether this is the first answer for a name of the pool. Until then the sessions of a previous configuration are
    /// kept; some may have to close now.
    pub first: bool,
}

// === impl PoolMembers ===

impl PoolMembers {
    /// Creates the members of configured addresses; a DNS name has none until its first answer.
    pub(crate) fn new(configs: Vec<Arc<MemberConfig>>, backends: &mut Backends) -> Self {
        let group = |config: Arc<MemberConfig>| MemberGroup {
            discovery: match config.static_member(backends) {
                Some(member) => Discovery::Members(vec![member]),
                None => Discovery::Pending,
            },
            config,
        };
        PoolMembers::of(configs.into_iter().map(group).collect(), Vec::new())
    }

    fn of(groups: Vec<MemberGroup>, mut removed: Vec<Arc<Member>>) -> Self {
        let mut members: Vec<Arc<Member>> = Vec::new();
        for member in groups.iter().flat_map(MemberGroup::members) {
            // DNS may return an address under two names, or one that is configured too.
            if !has(&members, &member.backend) {
                members.push(member.clone());
            }
        }
        removed.retain(|member| member.is_in_use() && !has(&members, &member.backend));
        PoolMembers {
            groups,
            current: members,
            removed,
        }
    }

    /// Takes over the DNS answers of `before` for names that both have.
    pub(crate) fn after(self, before: &PoolMembers, backends: &mut Backends) -> Self {
        let group = |group: MemberGroup| {
            let was = before.groups.iter().find(|was| was.name() == group.name());
            let discovery = match (group.name(), was.map(|was| &was.discovery)) {
                (Some(_), Some(Discovery::Members(members))) => {
                    let again = |member: &Arc<Member>| {
                        let address = member.backend.address();
                        group.config.member(address, member.share, backends)
                    };
                    Discovery::Members(members.iter().map(again).collect())
                }
                (Some(_), Some(discovery)) => discovery.clone(),
                _ => group.discovery,
            };
            MemberGroup { discovery, ..group }
        };
        let groups: Vec<_> = self.groups.into_iter().map(group).collect();
        let may_return = |member: &&Arc<Member>| {
            let mut named = groups.iter().filter(|group| group.name().is_some());
            named.any(|group| group.config.pool_entry == member.config.pool_entry)
        };
        let all = before.removed.iter().chain(&before.current);
        let vanished = all.filter(may_return).cloned().collect();
        PoolMembers::of(groups, vanished)
    }

    /// Returns the members after the DNS answer for `name`, and what has changed. `None`: DNS has no answer.
    pub(crate) fn apply_answer(
        &self,
        name: &DnsName,
        found: Option<&DnsAnswer>,
        backends: &mut Backends,
    ) -> (PoolMembers, MembershipChange) {
        let mut change = MembershipChange::default();
        let group = |group: &MemberGroup| {
            if group.name() != Some(name) {
                return group.clone();
            }
            let discovery = match (found, &group.discovery) {
                (Some(found), _) => Discovery::Members(group.members_from(found, backends)),
                (None, Discovery::Pending) => Discovery::Empty,
                (None, discovery) => discovery.clone(),
            };
            change.first |= matches!(group.discovery, Discovery::Pending);
            MemberGroup {
                config: group.config.clone(),
                discovery,
            }
        };
        let groups: Vec<_> = self.groups.iter().map(group).collect();
        let vanished = self.removed.iter().chain(&self.current).cloned().collect();
        let next = PoolMembers::of(groups, vanished);
        let new = next.current.iter();
        let new = new.filter(|member| !has(&self.current, &member.backend));
        change.added = new.map(|member| member.backend.clone()).collect();
        let removed = self.current.iter();
        let removed = removed.filter(|member| !has(&next.current, &member.backend));
        change.removed = removed.map(|member| member.backend.clone()).collect();
        (next, change)
    }

    /// Returns the members that are configured or in DNS.
    pub(crate) fn current(&self) -> &[Arc<Member>] {
        &self.current
    }

    /// Returns the backends that are no longer in DNS but still in use.
    pub(crate) fn vanished(&self) -> impl Iterator<Item = &Arc<Backend>> {
        let left = self.removed.iter().filter(|member| member.is_in_use());
        left.map(|member| &member.backend)
    }

    /// Returns the names to resolve and their configurations.
    pub(crate) fn named(&self) -> impl Iterator<Item = &MemberConfig> {
        let named = self.groups.iter().filter(|group| group.name().is_some());
        named.map(|group| &*group.config)
    }

    /// Returns the configured addresses, and the names without a DNS answer.
    pub(crate) fn shown(&self) -> impl Iterator<Item = String> {
        let unknown = self.groups.iter().filter(|group| group.is_unresolved());
        let unknown = unknown.map(|group| group.config.pool_entry.to_string());
        let known = self
            .current
            .iter()
            .map(|member| member.backend.name().to_string());
        known.chain(unknown)
    }

    /// Returns whether DNS has not answered yet for one of the names; other names and addresses may have members.
    pub(crate) fn awaits_dns(&self) -> bool {
        let mut discoveries = self.groups.iter().map(|group| &group.discovery);
        discoveries.any(|discovery| matches!(discovery, Discovery::Pending))
    }

    /// Returns whether DNS has returned no address so far for one of the names.
    pub(crate) fn is_unresolved(&self) -> bool {
        self.groups.iter().any(MemberGroup::is_unresolved)
    }

    /// Returns whether a session may stay on that backend, which was a member by this pool entry when the session
    /// began.
    pub(crate) fn keep(&self, backend: &str, pool_entry: &str) -> bool {
        let mut members = self.current.iter();
        let mut named = self.named();
        members.any(|member| **member.backend.name() == *backend)
            // The backend may be in a DNS answer that is still outstanding.
            || self.awaits_dns()
            || named.any(|config| *config.pool_entry == *pool_entry && config.keeps_vanished_sessions())
    }
}

// === impl MemberGroup ===

impl MemberGroup {
    fn name(&self) -> Option<&DnsName> {
        self.config.dns().map(|(name, _)| name)
    }

    /// Returns whether it is a name for which DNS has returned no address so far.
    fn is_unresolved(&self) -> bool {
        !matches!(self.discovery, Discovery::Members(_))
    }

    fn members(&self) -> &[Arc<Member>] {
        match &self.discovery {
            Discovery::Members(members) => members,
            Discovery::Pending | Discovery::Empty => &[],
        }
    }

    /// Returns the members after this answer. Members that are kept stay the same objects, with their slots.
    fn members_from(&self, found: &DnsAnswer, backends: &mut Backends) -> Vec<Arc<Member>> {
        let before = self.members();
        let mut members: Vec<Arc<Member>> = Vec::new();
        for endpoint in &found.endpoints {
            let address = BackendAddress::from(endpoint);
            let mut same = before.iter();
            let same = same.find(|member| {
                *member.backend.address() == address && member.share == endpoint.share
            });
            members.push(match same {
                Some(member) => member.clone(),
                None => self.config.member(&address, endpoint.share, backends),
            });
        }
        if !found.complete {
            // An incomplete answer removes no member that it may lack.
            let may_lack = |member: &&Arc<Member>| match member.backend.address() {
                BackendAddress::Tcp { host, .. } => found.may_lack(host),
                BackendAddress::Unix(_) => true,
            };
            let left = before.iter().filter(may_lack);
            let left = left.filter(|member| !has(&members, &member.backend));
            let left: Vec<_> = left.cloned().collect();
            members.extend(left);
            members.truncate(MAX_ENDPOINTS);
        }
        members
    }
}

impl From<&Endpoint> for BackendAddress {
    fn from(endpoint: &Endpoint) -> Self {
        BackendAddress::Tcp {
            scheme: Scheme::Plain,
            host: endpoint.host.clone(),
            port: endpoint.port,
        }
    }
}

impl<'a> From<&'a DnsName> for DnsQuery<'a> {
    fn from(name: &'a DnsName) -> Self {
        match name {
            DnsName::Addresses { name, port } => DnsQuery::Addresses { name, port: *port },
            DnsName::Services { name } => DnsQuery::Services { name },
        }
    }
}

fn has(members: &[Arc<Member>], backend: &Arc<Backend>) -> bool {
    let mut members = members.iter();
    members.any(|member| Arc::ptr_eq(&member.backend, backend))
}
