//! Fetches anew what was just served, behind the client's back.

use std::rc::Rc;

use super::super::live::View;
use super::super::outbound::Outbound;
use super::super::track::Track;
use super::{Asked, fetch};

/// Begins to fetch anew what `track`'s request was answered with. It waits for its turn like any request, and
/// what refuses it leaves what is stored as it is.
pub(crate) fn begin(
    track: &Track,
    live: &Rc<View>,
    index: usize,
    asked: Box<Asked>,
    mut outbound: Box<Outbound>,
) {
    // What the upstream says ahead of it is not for the client, who asks for something else by then.
    outbound.interim = Rc::default();
    let Some(lead) = asked.lead() else {
        // It is under way already.
        return;
    };
    if let Some(object) = asked.stored_since(track) {
        lead.answer_with(&object);
        return;
    }
    let live = Rc::clone(live);
    let mut track = track.silent();
    tokio::task::spawn_local(async move {
        if let Some(route) = live.routes.get(index) {
            // Whatever comes of it is in the store.
            let _answered = fetch::lead(&mut track, route, &asked, lead, outbound).await;
        }
    });
}
