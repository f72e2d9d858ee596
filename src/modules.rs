//! Modules that a program hosts beside those that every node has, each with its routes. It decides what such a module
//! has to bring and what its handlers are given; it does not know any of them.

use actix_web::web;
use ringwork_core::vnode::Vnode;
use ringwork_runtime::node::{Node, NodeBuilder};
use std::sync::Arc;

pub use ringwork_runtime::coordinator::Service;

/// Adds a module's routes; each HTTP worker calls it once.
pub(crate) type Routes = Arc<dyn Fn(&mut web::ServiceConfig) + Send + Sync>;

/// Makes them, over a node that has started; none where it does not host the module.
type MakeRoutes = Box<dyn FnOnce(&Node) -> Option<Routes>>;

struct Module {
    host: Box<dyn FnOnce(NodeBuilder) -> NodeBuilder>,
    routes: MakeRoutes,
}

/// Modules of a program's own. None by default.
#[derive(Default)]
pub struct Modules(Vec<Module>);

/// What is left of modules that a node is to host: their routes, to be made when it has started.
pub(crate) struct Unrouted(Vec<MakeRoutes>);

impl Modules {
    /// Hosts module `V` with its settings, and adds `routes`. Their handlers find the typed call site as
    /// `web::Data<Service<V>>`. The node's own routes come first.
    pub fn with<V: Vnode>(mut self, config: V::Config, routes: fn(&mut web::ServiceConfig)) -> Self {
        self.0.push(Module {
            host: Box::new(|builder| builder.service::<V>(config)),
            routes: Box::new(move |node| {
                let calls = web::Data::new(node.service::<V>()?);
                Some(Arc::new(move |app: &mut web::ServiceConfig| {
                    app.app_data(calls.clone());
                    routes(app);
                }))
            }),
        });
        self
    }

    pub(crate) fn host(self, builder: NodeBuilder) -> (NodeBuilder, Unrouted) {
        let mut unrouted = Vec::new();
        let builder = self.0.into_iter().fold(builder, |builder, module| {
            unrouted.push(module.routes);
            (module.host)(builder)
        });
        (builder, Unrouted(unrouted))
    }
}

impl Unrouted {
    /// The routes, over a node that hosts the modules.
    pub(crate) fn over(self, node: &Node) -> Vec<Routes> {
        self.0.into_iter().filter_map(|routes| routes(node)).collect()
    }
}
