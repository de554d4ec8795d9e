//! What a traffic router is: a lens on route objects. It reads a split and writes a split; it makes
//! no request.

use serde_json::Value;

use crate::model::{
    object::{Kind, ObjectRef, Objects},
    traffic::RouteFault,
};

/// JSON-patch operations, by object.
pub type Patches = Vec<(ObjectRef, Vec<Value>)>;

/// A lens on route objects.
///
/// Laws, held for every router by one test: what was written is read back; writing what was read
/// changes nothing; and no field is touched but the weights. Where backends are managed: what is bound reads as
/// nothing for the canary, and unbound again it is as it was.
pub trait Router {
    /// The objects that must be looked at.
    fn references(&self) -> Vec<ObjectRef>;
    /// The canary's share that they express, in millionths.
    fn read(&self, objects: &Objects) -> Result<u32, RouteFault>;
    /// Everything for which no share can be read; [`Router::read`] tells the first of it.
    fn faults(&self, objects: &Objects) -> Vec<RouteFault> {
        self.read(objects).err().into_iter().collect()
    }
    /// The largest share in any rule that can be read, in millionths, also where others cannot; none where
    /// none can.
    fn highest(&self, objects: &Objects) -> Option<u32> {
        match self.read(objects) {
            Ok(share) | Err(RouteFault::Disagree(share)) => Some(share),
            Err(RouteFault::Missing(_) | RouteFault::Unfit { .. }) => None,
        }
    }
    /// What gives the canary nothing in every rule that can be read, like [`Router::write`]: what cannot is left
    /// as it is.
    fn straighten(&self, objects: &Objects) -> Vec<(ObjectRef, Vec<Value>)> {
        self.write(objects, 0).unwrap_or_default()
    }
    /// JSON-patch operations, by object, that make them express `share`; none for an object that
    /// does already.
    fn write(
        &self,
        objects: &Objects,
        share: u32,
    ) -> Result<Vec<(ObjectRef, Vec<Value>)>, RouteFault>;
    /// What the acceptance of what is written still lacks, in a sentence; none when every
    /// controller has accepted it.
    fn lacking(&self, objects: &Objects) -> Option<String>;
    /// What puts the role Services into the place of the user's in every rule that can be read, everything to
    /// stable; none where none names the user's.
    fn bind(&self, _objects: &Objects) -> Patches {
        vec![]
    }
    /// What puts the user's Service back where [`Router::bind`] took it out; none where it is nowhere remembered.
    fn unbind(&self, _objects: &Objects) -> Patches {
        vec![]
    }
    /// Whether it can split. Otherwise it knows only nothing and everything: 0 and
    /// [`FULL`](crate::model::share::FULL).
    fn splits(&self) -> bool {
        true
    }
}

/// A router in the list of all.
pub struct Entry {
    /// The kinds of its objects.
    pub kinds: &'static [Kind],
    /// The lens, where the Rollout asks for this router.
    pub router: Option<Box<dyn Router>>,
}

/// The role Services between which a router splits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Backends {
    /// The user's Service.
    pub user: String,
    /// The stable Service.
    pub stable: String,
    /// The canary Service.
    pub canary: String,
    /// Where the strategy stands, for messages: `spec.strategy.canary`.
    pub path: String,
}
