//! The only door out: a statement leaves this node as a [`Cleared`], which remembers for whom, or not at all.
//!
//! It guards the network and everything else meant for others. Three more ways to a [`Cleared`] exist, each named by its
//! reason: [`Cleared::full`], which the owner confirmed, [`Cleared::own_feed_entry`], for entries that hide nothing, and
//! [`Cleared::to_its_owner`], for what we write in somebody else's name.

use std::collections::BTreeSet;
use std::fmt;

use lotline_schema::kind::{Group, SLOTS_MAX, Schema};
use lotline_schema::release::Release;
use lotline_schema::slot::Disclosure;
use lotline_schema::statement::{Body, Type, Unverified};
use lotline_schema::terms::Terms;
use lotline_schema::view::SealedView;
use lotline_schema::{Facts, Hash, Origin, PartyId, codec};

use crate::decide::{Question, Viewer};
use crate::moment::Moment;
use crate::policy::{Policy, Rule};

/// A statement of ours, whole, as the store holds it.
#[derive(Clone, Copy)]
pub struct Item<'a> {
    /// The name of its feed, as rules name it.
    pub feed: &'a str,
    /// The origin of its feed.
    pub origin: &'a str,
    /// Its place.
    pub seq: u64,
    /// Its leaf hash.
    pub leaf: Hash,
    /// The signed bytes.
    pub core: &'a [u8],
    /// What opens its slots, in slot order: all but those that its facts say were forgotten.
    pub disclosures: &'a [Disclosure],
    /// Its schema, if this program knows it.
    pub schema: Option<&'static Schema>,
    /// What rules need to know of it, read from all its slots.
    pub facts: &'a Facts,
}

/// What one partner gets of one statement: a view, or only the leaf hash.
///
/// Nobody else can make one:
///
/// ```compile_fail
/// let forged = lotline_policy::Cleared { partner: "rival".into() };
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Cleared {
    partner: String,
    origin: String,
    seq: u64,
    leaf: Hash,
    mask: u64,
    shares: Vec<usize>,
    under: Vec<(Hash, u64)>,
    opens_at: Option<i64>,
    basis: Basis,
    view: Option<SealedView>,
}

/// Why a statement may leave.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Basis {
    /// This version of the policy.
    Policy(u64),
    /// The owner confirmed full disclosure.
    Full,
    /// An entry that hides nothing.
    Entry,
    /// It belongs to who gets it.
    Owner,
}

/// The owner's confirmation that a partner gets everything, past the policy: enters the ledger under that name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FullDisclosure {
    to: String,
}

impl FullDisclosure {
    /// Call this only where the owner has just typed the name of who will get it.
    pub fn confirmed_by_owner(to: impl Into<String>) -> FullDisclosure {
        FullDisclosure { to: to.into() }
    }

    /// Who gets it.
    pub fn to(&self) -> &str {
        &self.to
    }
}

/// Opens what the policy shows of a statement to a viewer now, and nothing else. Where nothing is shown, or anything is
/// not as it should be (an unknown schema, a slot without its disclosure), only the leaf hash is left: a partner cannot tell
/// why, nor "forbidden" from "does not exist". An absent field in a shown slot is shown as absent, by its decoy.
///
/// An example stands on the [first page](crate).
pub fn clear(policy: &Policy, viewer: &Viewer, item: &Item<'_>, now: impl Into<Moment>) -> Cleared {
    let (mask, shares, under, opens_at) = match item.schema {
        Some(schema) if item.is_whole(schema) => {
            let question = Question::new(viewer, item.feed, schema, item.facts, now);
            let mask = question.mask(policy);
            (mask, question.opening(policy, mask), question.under_terms(policy, mask), question.opens_at(policy))
        }
        _ => (0, Vec::new(), Vec::new(), None),
    };
    let view = (mask != 0).then(|| item.view(mask));
    Cleared { shares, under, opens_at, ..Cleared::new(&viewer.partner, item, mask, Basis::Policy(policy.version()), view) }
}

/// The mask of a release that is shown: it has no slots, and the ledger must still know that it left.
pub const RELEASE_SHOWN: u64 = 1 << 63;

/// A release names a person who stands for a record's verdict: it leaves to whoever may see that verdict now, whole, and
/// to nobody else. Hidden too when it is not about this record.
pub fn clear_release(policy: &Policy, viewer: &Viewer, release: &Item<'_>, record: &Item<'_>, now: impl Into<Moment>) -> Cleared {
    let verdict = record.schema.map_or(0, |schema| {
        let fields = schema.fields.iter().enumerate();
        let of_the_record = fields.filter(|(_, field)| field.group == Group::Verdict && field.name.starts_with("verdict"));
        of_the_record.fold(0, |mask, (slot, _)| mask | 1 << slot)
    });
    let record_cleared = clear(policy, viewer, record, now);
    let seen = release.is_about(record) && record_cleared.mask & verdict != 0;
    let opens_at = record_cleared.opens_at.filter(|_| release.is_about(record));
    let of_verdict = |at: &usize| record.schema.is_some_and(|schema| policy.shares()[*at].mask(schema) & verdict != 0);
    let shares = record_cleared.shares.into_iter().filter(|at| seen && of_verdict(at)).collect();
    let mask = if seen { RELEASE_SHOWN } else { 0 };
    let view = seen.then(|| release.view(0));
    Cleared { shares, opens_at, ..Cleared::new(&viewer.partner, release, mask, Basis::Policy(policy.version()), view) }
}

impl Cleared {
    /// The whole statement, as the owner confirmed. The inspector's name is in it.
    ///
    /// ```
    /// # use lotline_policy::{Cleared, FullDisclosure, Item};
    /// # use lotline_schema::{Facts, Hash, slot::Disclosure};
    /// # let disclosures = vec![Disclosure::seal(&[7; 16], None); 3];
    /// # let item = Item { feed: "quality", origin: "z6Mk…/quality/1", seq: 1, leaf: Hash([0; 32]), core: b"", disclosures: &disclosures, schema: None, facts: &Facts::default() };
    /// let all = Cleared::full(&item, &FullDisclosure::confirmed_by_owner("court"));
    /// assert_eq!((all.partner(), all.mask()), ("court", 0b111));
    /// ```
    pub fn full(item: &Item<'_>, confirmed: &FullDisclosure) -> Cleared {
        let mask = item.slots().fold(0, |mask, (slot, _)| mask | 1 << slot);
        Cleared::new(&confirmed.to, item, mask, Basis::Full, Some(item.view(mask)))
    }

    /// An entry of an org feed or the first of a feed: clear values that say whose keys are valid. Without them a partner
    /// can verify nothing, and they hold no slot a rule could speak of. None if the bytes are anything else, so that no
    /// record takes this way. Whether the partner may follow the feed at all is for [`Policy::feeds_for`].
    pub fn own_feed_entry(partner: &str, item: &Item<'_>) -> Option<Cleared> {
        let entry = Unverified::read(item.core).ok().filter(|entry| entry.leaf() == item.leaf)?;
        let claims = entry.claims();
        let fits = matches!(claims.body, Body::Entry(_)) && claims.origin == item.origin && claims.seq == item.seq;
        fits.then(|| Cleared::new(partner, item, 0, Basis::Entry, Some(item.view(0))))
    }

    /// A statement that we wrote into a feed of this very partner, under a delegation: it is the partner's own, whole, and
    /// nobody else's. None when the feed is of anybody else, whatever rules say.
    ///
    /// ```
    /// # use lotline_policy::{Cleared, Item};
    /// # use lotline_schema::{Facts, Hash, PartyId, slot::Disclosure};
    /// # let owner: PartyId = "did:key:z6MkehRgf7yJbgaGfYsdoAsKdBPE3dj2CYhowQdcjqSJgvVd".parse()?;
    /// # let other: PartyId = "did:key:z6Mkf5rGMoatrSj1f4CyvuHBeXJELe9RPdzo2PKGNCKVtZxP".parse()?;
    /// # let disclosures = vec![Disclosure::seal(&[7; 16], None); 3];
    /// # let item = Item { feed: "lab", origin: "z6MkehRgf7yJbgaGfYsdoAsKdBPE3dj2CYhowQdcjqSJgvVd/lab/1", seq: 1, leaf: Hash([0; 32]), core: b"", disclosures: &disclosures, schema: None, facts: &Facts::default() };
    /// assert_eq!(Cleared::to_its_owner("acme", owner, &item).map(|all| all.mask()), Some(0b111));
    /// assert!(Cleared::to_its_owner("rival", other, &item).is_none());
    /// # Ok::<(), lotline_schema::id::IdError>(())
    /// ```
    pub fn to_its_owner(partner: &str, party: PartyId, item: &Item<'_>) -> Option<Cleared> {
        let theirs = item.origin.parse::<Origin>().is_ok_and(|origin| origin.party() == party);
        let mask = item.slots().fold(0, |mask, (slot, _)| mask | 1 << slot);
        theirs.then(|| Cleared::new(partner, item, mask, Basis::Owner, Some(item.view(mask))))
    }

    fn new(partner: &str, item: &Item<'_>, mask: u64, basis: Basis, view: Option<SealedView>) -> Cleared {
        Cleared {
            partner: partner.into(),
            origin: item.origin.into(),
            seq: item.seq,
            leaf: item.leaf,
            mask,
            shares: Vec::new(),
            under: Vec::new(),
            opens_at: None,
            basis,
            view,
        }
    }

    /// For whom.
    pub fn partner(&self) -> &str {
        &self.partner
    }

    /// The origin of its feed.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// Its place in the feed.
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// Its leaf hash, which leaves in any case.
    pub fn leaf(&self) -> Hash {
        self.leaf
    }

    /// Bit = slot shown.
    pub fn mask(&self) -> u64 {
        self.mask
    }

    /// The shares that open some of it, by their place in [`Policy::shares`]; for a release, those
    /// that open the verdict of its record.
    pub fn shares(&self) -> &[usize] {
        &self.shares
    }

    /// The slots that are shown under terms alone, by the id of the terms; nothing for a release, which names no field.
    pub fn under(&self) -> &[(Hash, u64)] {
        &self.under
    }

    /// When a delay that holds some of it back ends next: that moment is this statement's own, and [`next_change`] knows nothing
    /// of it. A release waits with its record.
    pub fn opens_at(&self) -> Option<i64> {
        self.opens_at
    }

    /// Why it may leave.
    pub fn basis(&self) -> Basis {
        self.basis
    }

    /// Whether only the leaf hash leaves.
    pub fn is_hidden(&self) -> bool {
        self.view.is_none()
    }

    /// Core and shown disclosures.
    pub fn view(&self) -> Option<&SealedView> {
        self.view.as_ref()
    }

    /// Core and shown disclosures, given away.
    pub fn into_view(self) -> Option<SealedView> {
        self.view
    }
}

/// For logs: no content.
impl fmt::Debug for Cleared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cleared({} for {}, slots {:#x}, {:?})", self.leaf.short(), self.partner, self.mask, self.basis)
    }
}

impl Item<'_> {
    /// Whether this is the release of that record, in the same feed.
    fn is_about(&self, record: &Item<'_>) -> bool {
        let Ok(unverified) = Unverified::read(self.core) else {
            return false;
        };
        let claims = unverified.claims();
        let about = match &claims.body {
            Body::Entry(entry) if claims.typ == Type::Release => Release::read(entry).ok(),
            _ => None,
        };
        let here = unverified.leaf() == self.leaf && claims.origin == self.origin && self.origin == record.origin;
        here && about.is_some_and(|about| about.leaf == record.leaf && about.seq == record.seq)
    }

    /// Each slot that is here, with what opens it.
    fn slots(&self) -> impl Iterator<Item = (usize, &Disclosure)> {
        let here = (0..SLOTS_MAX).filter(|slot| self.facts.forgotten >> slot & 1 == 0);
        here.zip(self.disclosures)
    }

    /// Whether every slot of the schema is here, or was forgotten.
    fn is_whole(&self, schema: &Schema) -> bool {
        let forgotten = (0..schema.fields.len()).filter(|slot| self.facts.forgotten >> slot & 1 == 1).count();
        self.disclosures.len() + forgotten == schema.fields.len()
    }

    fn view(&self, mask: u64) -> SealedView {
        let shown = self.slots().filter(|(slot, _)| mask >> slot & 1 == 1);
        SealedView { core: self.core.to_vec(), disclosures: shown.map(|(_, disclosure)| disclosure.clone()).collect() }
    }
}

/// The earliest moment after now at which time alone may change what this viewer sees of a feed.
///
/// ```
/// # use lotline_policy::{Policy, Viewer, next_change};
/// let text = "[[share]]\nname = 's'\nwith = 'oem-a'\nfeed = 'all'\nparts = 'all'\nshow = ['verdict']\nuntil = 2027-01-01";
/// let policy = Policy::restore(text)?;
/// assert_eq!(next_change(&policy, &Viewer::new("oem-a"), "quality", 0), Some(1_798_761_600));
/// assert_eq!(next_change(&policy, &Viewer::new("oem-b"), "quality", 0), None);
/// # Ok::<(), lotline_policy::Slips>(())
/// ```
pub fn next_change(policy: &Policy, viewer: &Viewer, feed: &str, now: i64) -> Option<i64> {
    with(policy, viewer, feed).flat_map(Rule::dates).filter(|boundary| now < *boundary).min()
}

/// Names what a viewer sees of a feed: while it stays equal, so does the view of every record. A new version of the
/// policy, a stop, a passed date of one of the viewer's shares, or another acceptance of terms that its shares ask for gives
/// another.
///
/// ```
/// # use lotline_policy::{Policy, Viewer, view_id};
/// # let key = "z6MkehRgf7yJbgaGfYsdoAsKdBPE3dj2CYhowQdcjqSJgvVd";
/// let (viewer, origin) = (Viewer::new("oem-a"), format!("{key}/quality/1").parse()?);
/// let policy = Policy::nothing();
/// assert_eq!(view_id(&policy, &viewer, &origin, 0), view_id(&policy, &viewer, &origin, 9));
/// assert_ne!(view_id(&policy, &viewer, &origin, 0), view_id(&policy.with_version(1), &viewer, &origin, 0));
/// # Ok::<(), lotline_schema::id::IdError>(())
/// ```
pub fn view_id(policy: &Policy, viewer: &Viewer, origin: &Origin, now: impl Into<Moment>) -> Hash {
    let now = now.into();
    let begun = with(policy, viewer, origin.name()).filter_map(|share| share.from).filter(|from| now.is_after(*from)).max();
    let over = with(policy, viewer, origin.name()).flat_map(Rule::ends).filter(|end| now.is_over(*end)).max();
    // Only what shares on this feed ask for: what is accepted for another feed changes nothing here.
    let asked = || with(policy, viewer, origin.name()).filter_map(|share| share.terms.as_ref());
    let purposes: BTreeSet<&String> = asked().flat_map(|terms| terms.purposes().intersection(&viewer.purposes)).collect();
    let terms: BTreeSet<Hash> = asked().map(Terms::id).filter(|id| viewer.terms.contains(id)).collect();
    let mut parts = vec![
        codec::text("lotline view 1"),
        codec::text(viewer.partner.as_str()),
        codec::array(purposes.into_iter().map(|purpose| codec::text(purpose.as_str()))),
        codec::text(origin.to_string()),
        codec::uint(policy.version()),
        codec::optional(begun.max(over), codec::int),
        codec::Value::Bool(policy.stopped().covers(&viewer.partner)),
    ];
    // Without terms the same bytes as ever: partners hold views by their names.
    parts.extend((!terms.is_empty()).then(|| codec::array(terms.into_iter().map(|id| codec::bytes(id.0)))));
    // Under a clock that was set back something is over that is still to come: it does not tell what has begun.
    parts.extend(over.filter(|over| now.now() < *over).map(|_| codec::optional(begun, codec::int)));
    Hash::of(&[&codec::encode(&codec::array(parts))])
}

/// The shares with this viewer on this feed.
fn with<'a>(policy: &'a Policy, viewer: &'a Viewer, feed: &'a str) -> impl Iterator<Item = &'a Rule> + 'a {
    policy.shares().iter().filter(|rule| rule.partners.contains(&viewer.partner) && rule.feed.covers(feed))
}
