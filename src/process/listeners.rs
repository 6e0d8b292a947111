//! Listeners: bound and loaded first, then put to use by the workers, and closed.

use std::sync::Arc;

use super::{Error, Inherited, Open, Process};
use crate::config::plan::Plan;
use crate::proxy::listener::{self, Bound};
use crate::proxy::live::LiveListener;
use crate::proxy::worker::Command;

/// A listener bound and loaded, not yet in use. Without sockets: those it has stay.
pub(super) struct Opened {
    live: Arc<LiveListener>,
    sockets: Vec<Bound>,
}

impl Process {
    /// Binds and loads what `plan` listens on and is not open yet; touches nothing that runs.
    pub(super) fn open(
        &self,
        plan: &Plan,
        inherited: &mut Inherited,
    ) -> Result<Vec<Opened>, Error> {
        let mut opened = Vec::new();
        for listener in &plan.listeners {
            let former = self.listeners.get(&listener.name);
            let connections =
                former.map_or_else(Arc::default, |open| Arc::clone(&open.connections));
            let live = Arc::new(LiveListener::build(listener, connections)?);
            let sockets = match former {
                Some(open) if open.bind == listener.bind => Vec::new(),
                _ => match inherited.take(&listener.bind) {
                    Some(sockets) => sockets,
                    None => listener::bind(&listener.bind, plan.server.workers)?,
                },
            };
            opened.push(Opened { live, sockets });
        }
        Ok(opened)
    }

    /// Puts what was opened to use.
    pub(super) fn adopt(&mut self, opened: Vec<Opened>) {
        let mut views = Vec::new();
        for Opened { live, sockets } in opened {
            let name = Arc::clone(&live.listener.name);
            if sockets.is_empty() {
                for worker in &self.workers {
                    worker.tell(Command::Update(Arc::clone(&live)));
                }
            } else {
                if self.listeners.contains_key(&name) {
                    self.close(&name);
                }
                self.sockets.keep(&live.listener.bind, &sockets);
                let workers = self.workers.len().max(1);
                for (index, socket) in sockets.into_iter().enumerate() {
                    if let Some(worker) = self.workers.get(index % workers) {
                        worker.tell(Command::Listen(socket, Arc::clone(&live)));
                    }
                }
            }
            let open = Open {
                bind: live.listener.bind.clone(),
                connections: Arc::clone(&live.connections),
            };
            views.push((
                Arc::clone(&name),
                self.sockets.address(&open.bind),
                Arc::clone(&open.connections),
            ));
            self.listeners.insert(name, open);
        }
        self.views.set_listeners(views);
    }

    pub(super) fn close(&mut self, name: &Arc<str>) {
        for worker in &self.workers {
            worker.tell(Command::Unlisten(Arc::clone(name)));
        }
        if let Some(open) = self.listeners.remove(name) {
            self.sockets.forget(&open.bind);
        }
    }
}
