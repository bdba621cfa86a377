//! What one partner sees of a statement: the core, and the disclosures it was given.

use crate::codec::{self, CodecError, Fields, Value};
use crate::id::Hash;
use crate::kind::Schema;
use crate::org::{Org, Person, Standing};
use crate::record::{Facts, IDENTITY};
use crate::release::Release;
use crate::slot::{Disclosure, Opened, SlotError};
use crate::statement::{Body, Claims, StatementError, Type, Unverified};

/// The largest package: core, disclosures and evidence together.
pub const PACKAGE_BYTES_MAX: usize = 960 * 1024;

/// A view as received.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SealedView {
    /// The signed bytes.
    pub core: Vec<u8>,
    /// What opens some of its slots.
    pub disclosures: Vec<Disclosure>,
}

/// Where a view must stand to be accepted.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'a> {
    /// Its feed.
    pub origin: &'a str,
    /// Its sequence number.
    pub seq: u64,
}

/// A view that does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ViewError {
    /// The statement is broken, or its signature.
    #[error(transparent)]
    Statement(#[from] StatementError),
    /// Another feed, place or issuer than expected.
    #[error("it belongs elsewhere: {0}")]
    Elsewhere(&'static str),
    /// Signed by a key that may not sign there.
    #[error("key {0} may not sign records at this place")]
    Key(String),
    /// A disclosure that does not fit.
    #[error(transparent)]
    Slot(#[from] SlotError),
    /// An opened value has not the form the schema gives it.
    #[error("`{0}` has not the form its schema gives it")]
    Form(&'static str),
    /// The statement has another number of slots than its schema.
    #[error("the statement has {0} slots, its schema {1}")]
    Slots(usize, usize),
    /// A required field is shown as absent.
    #[error("`{0}` is required, and shown as absent")]
    Required(&'static str),
    /// A view of something that is not a record.
    #[error("a disclosure for a statement that hides nothing")]
    NotARecord,
}

/// A view every part of which was checked: signature, place, key, disclosures, forms.
#[derive(Clone, Debug)]
pub struct VerifiedView {
    claims: Claims,
    leaf: Hash,
    slots: Vec<Option<Opened>>,
    order: Vec<u8>,
    schema: Option<&'static Schema>,
    revoked: Option<String>,
    released_by: Option<Person>,
}

impl SealedView {
    /// Checks everything about it against its issuer's org feed and the place it must have.
    pub fn verify(&self, org: &Org, expected: Expected<'_>) -> Result<VerifiedView, ViewError> {
        self.verify_read(Unverified::read(&self.core)?, org, expected)
    }

    /// The same for a core that was read already.
    pub(crate) fn verify_read(&self, unverified: Unverified, org: &Org, expected: Expected<'_>) -> Result<VerifiedView, ViewError> {
        let claims = unverified.claims();
        if claims.issuer != org.issuer() {
            return Err(ViewError::Elsewhere("another issuer"));
        }
        if claims.origin != expected.origin {
            return Err(ViewError::Elsewhere("another feed"));
        }
        if claims.seq != expected.seq {
            return Err(ViewError::Elsewhere("another place in the feed"));
        }
        // Index 0 is the feed's own entry, everything after it is a record or the release of one.
        let fits = match claims.typ {
            Type::Feed => expected.seq == 0,
            Type::Record | Type::Release => expected.seq > 0,
            _ => false,
        };
        if !fits {
            return Err(ViewError::Elsewhere("another type of statement"));
        }
        let (kid, day) = (claims.kid, claims.day);
        let unknown = || ViewError::Key(kid.short());
        let (person, standing) = match claims.typ {
            Type::Release => {
                let (person, standing) = org.signer_key(&kid, expected.origin, expected.seq).ok_or_else(unknown)?;
                (Some(person.clone()), standing)
            }
            _ => (None, org.record_key(&kid, expected.origin, expected.seq, day).ok_or_else(unknown)?),
        };
        let (key, revoked) = match standing {
            Standing::Good(key) => (key, None),
            Standing::Revoked(key, why) => (key, Some(why)),
        };
        let verified = unverified.verify(key)?;
        let view = self.open(verified.claims().clone(), verified.leaf())?;
        Ok(VerifiedView { revoked, released_by: person, ..view })
    }

    /// Opens our own statement, read back from our own store, without checking the signature again.
    pub fn trusted(&self) -> Result<VerifiedView, ViewError> {
        let unverified = Unverified::read(&self.core)?;
        self.open(unverified.claims().clone(), unverified.leaf())
    }

    fn open(&self, claims: Claims, leaf: Hash) -> Result<VerifiedView, ViewError> {
        let (slots, order, schema) = match &claims.body {
            Body::Slots(schema, slots) => {
                let (open, order) = slots.open_indexed(&self.disclosures)?;
                let schema = schema.known();
                if let Some(schema) = schema {
                    check_forms(schema, &open)?;
                }
                (open, order, schema)
            }
            Body::Entry(entry) if self.disclosures.is_empty() => {
                if claims.typ == Type::Release {
                    Release::read(entry).map_err(StatementError::from)?;
                }
                (Vec::new(), Vec::new(), None)
            }
            Body::Entry(_) => return Err(ViewError::NotARecord),
        };
        Ok(VerifiedView { claims, leaf, slots, order, schema, revoked: None, released_by: None })
    }
}

fn check_forms(schema: &'static Schema, open: &[Option<Opened>]) -> Result<(), ViewError> {
    if open.len() != schema.fields.len() {
        return Err(ViewError::Slots(open.len(), schema.fields.len()));
    }
    for (field, opened) in schema.fields.iter().zip(open) {
        match opened {
            Some(Opened::Value(value)) if !field.form.fits(value) => return Err(ViewError::Form(field.name)),
            Some(Opened::Absent) if field.required => return Err(ViewError::Required(field.name)),
            _ => {}
        }
    }
    Ok(())
}

impl VerifiedView {
    /// What the statement says in the clear.
    pub fn claims(&self) -> &Claims {
        &self.claims
    }

    /// Its leaf hash.
    pub fn leaf(&self) -> Hash {
        self.leaf
    }

    /// Why its organisation does not vouch for it though the signature holds: the key was revoked, or a delegation had ended.
    pub fn revoked(&self) -> Option<&str> {
        self.revoked.as_deref()
    }

    /// For a release: who signed it, and which record it is about.
    pub fn release(&self) -> Option<(&Person, Release)> {
        let Body::Entry(entry) = &self.claims.body else {
            return None;
        };
        Some((self.released_by.as_ref()?, Release::read(entry).ok()?))
    }

    /// Its slots: hidden ones are none.
    pub fn slots(&self) -> &[Option<Opened>] {
        &self.slots
    }

    /// Which slot each of the view's disclosures opened, in their order.
    pub fn opened(&self) -> &[u8] {
        &self.order
    }

    /// Its schema, if this program knows it.
    pub fn schema(&self) -> Option<&'static Schema> {
        self.schema
    }

    /// The value shown for a field.
    pub fn value(&self, name: &str) -> Option<&Value> {
        let slot = self.schema?.slot(name)?;
        self.slots.get(slot)?.as_ref()?.value()
    }

    /// The text shown for a field.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.value(name).and_then(codec::as_text)
    }

    /// What lists and filters can know from what is shown.
    pub fn facts(&self) -> Facts {
        match self.schema {
            Some(schema) => Facts::read(schema, |slot| self.slots[slot].as_ref()?.value()),
            None if self.claims.typ == Type::Release => Facts::of_release(),
            None => Facts::default(),
        }
    }

    /// Whether every slot that tells one inspection from another is open. Where one is hidden, two records that look
    /// alike may be two samples of one lot.
    pub fn shows_identity(&self) -> bool {
        let open = |name: &&str| self.schema.and_then(|schema| schema.slot(name)).is_some_and(|slot| self.slots[slot].is_some());
        IDENTITY.iter().all(open)
    }

    /// How many slots are hidden.
    pub fn hidden(&self) -> usize {
        self.slots.iter().filter(|slot| slot.is_none()).count()
    }
}

/// A package: what travels to an auditor about one record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Package {
    /// Core and disclosures.
    pub view: SealedView,
    /// C2SP tlog-proof text, with its checkpoint and what witnesses signed of it.
    pub proof: String,
    /// The same under the first checkpoint with this record that a witness signed, when that is another.
    pub witnessed: Option<String>,
    /// The log owner's inclusion receipt (RFC 9942).
    pub receipt: Option<Vec<u8>>,
}

impl Package {
    /// A view with its proof, and no evidence by others.
    pub fn new(view: SealedView, proof: String) -> Package {
        Package { view, proof, witnessed: None, receipt: None }
    }

    pub(crate) fn to_value(&self) -> Value {
        let mut entries = vec![(1, codec::bytes(self.view.core.as_slice()))];
        if !self.view.disclosures.is_empty() {
            entries.push((2, codec::array(self.view.disclosures.iter().map(|disclosure| codec::bytes(disclosure.bytes())))));
        }
        entries.extend(self.receipt.as_ref().map(|receipt| (3, codec::bytes(receipt.as_slice()))));
        entries.push((4, codec::bytes(self.proof.as_bytes())));
        entries.extend(self.witnessed.as_ref().map(|proof| (6, codec::bytes(proof.as_bytes()))));
        codec::map(entries)
    }

    /// Reads one; the evidence of version 2 is refused where version 1 is read.
    pub(crate) fn read(value: Value, version: u64) -> Result<Package, CodecError> {
        let mut fields = Fields::of(value)?;
        let core = fields.bytes(1, "a package without a core")?;
        let disclosures = match fields.take(2) {
            None => Vec::new(),
            Some(Value::Array(items)) if !items.is_empty() && items.len() <= crate::kind::SLOTS_MAX => {
                let bytes = |item| if let Value::Bytes(bytes) = item { Some(Disclosure::received(bytes)) } else { None };
                items.into_iter().map(bytes).collect::<Option<_>>().ok_or(CodecError::Shape("a disclosure that is no byte string"))?
            }
            Some(_) => return Err(CodecError::Shape("disclosures that are no list")),
        };
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).map_err(|_| CodecError::Shape("an inclusion proof that is no text"));
        let proof = text(fields.bytes(4, "a package without an inclusion proof")?)?;
        let (mut receipt, mut witnessed) = (None, None);
        if version > 1 {
            receipt = fields.take_bytes(3, "an inclusion receipt that is no byte string")?;
            witnessed = fields.take_bytes(6, "a witnessed proof that is no byte string")?.map(text).transpose()?;
        }
        fields.end()?;
        let opened: usize = disclosures.iter().map(|disclosure: &Disclosure| disclosure.bytes().len()).sum();
        let evidence = proof.len() + witnessed.as_ref().map_or(0, String::len) + receipt.as_ref().map_or(0, Vec::len);
        if core.len() + opened + evidence > PACKAGE_BYTES_MAX {
            return Err(CodecError::Shape("a package larger than 960 KiB"));
        }
        Ok(Package { view: SealedView { core, disclosures }, proof, witnessed, receipt })
    }
}
