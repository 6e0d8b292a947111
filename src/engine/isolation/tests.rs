use super::*;
use crate::clock::Instant;
use crate::policy::rate::Period;

fn order(id: &str, subject: Subject, to: To) -> Order {
    Order {
        id: id.into(),
        subject,
        to,
        word: "as ordered".into(),
        since: 100,
        until: 200,
        reason: "a test".into(),
        by: "nobody".into(),
    }
}

fn client(name: &str) -> Subject {
    Subject::Client(name.into())
}

fn at(millis: u64) -> Moment {
    Moment {
        monotonic: Instant::ZERO.after(Duration::from_millis(millis)),
        unix: 100 + millis / 1_000,
    }
}

#[test]
fn who_is_blocked_is_refused_and_nobody_else() {
    let isolations = Isolations::default();
    isolations
        .add(order("1", client("reports"), To::Block))
        .unwrap();
    let refused = isolations
        .admit("reports", "shop", &[], || at(0))
        .unwrap_err();
    assert_eq!(refused.reason, Reason::Blocked);
    assert!(
        isolations
            .admit("web", "shop", &[], || at(0))
            .unwrap()
            .is_none()
    );
    isolations
        .add(order("2", Subject::Route("shop".into()), To::Block))
        .unwrap();
    assert!(isolations.admit("web", "shop", &[], || at(0)).is_err());
    assert!(isolations.admit("web", "search", &[], || at(0)).is_ok());
    assert_eq!(isolations.all()[0].counts(), (0, 1));
}

#[test]
fn who_is_throttled_has_its_rate() {
    let isolations = Isolations::default();
    let quota = Quota::try_new(10, Period::Second, 10).unwrap();
    isolations
        .add(order("1", client("reports"), To::Throttle(quota)))
        .unwrap();
    let passed = (0..10_000)
        .filter(|millis| {
            isolations
                .admit("reports", "shop", &[], || at(*millis))
                .is_ok()
        })
        .count();
    assert!((100..=111).contains(&passed), "{passed}");
}

#[test]
fn a_lane_holds_a_share_of_the_limit_and_one_at_least() {
    let isolations = Isolations::default();
    isolations
        .add(order("1", client("reports"), To::Lane))
        .unwrap();
    let lane = isolations
        .admit("reports", "shop", &[], || at(0))
        .unwrap()
        .unwrap();
    let places: Vec<_> = (0..6).map(|_| lane.enter(100)).collect();
    assert_eq!(places.iter().filter(|place| place.is_ok()).count(), 5);
    assert!(lane.enter(4).is_err());
    drop(places);
    assert!(lane.enter(4).is_ok());
}

#[test]
fn what_is_released_or_over_leaves_nothing() {
    let isolations = Isolations::default();
    isolations
        .add(order("1", client("one"), To::Block))
        .unwrap();
    isolations
        .add(order("2", client("two"), To::Block))
        .unwrap();
    assert_eq!(isolations.counts()[0], ("client", 2));
    assert!(isolations.release("3").is_none());
    assert!(isolations.release("1").is_some());
    assert!(isolations.admit("one", "shop", &[], || at(0)).is_ok());
    assert!(isolations.expire(199).is_empty());
    assert_eq!(isolations.expire(200).len(), 1);
    let nobody_asks = || panic!("no time is needed when nobody is isolated");
    assert!(isolations.admit("two", "shop", &[], nobody_asks).is_ok());
    assert!(isolations.all().is_empty());
}

#[test]
fn a_tier_is_cut_off_with_those_below_it() {
    let isolations = Isolations::default();
    let tiers = ["critical", "standard", "batch"].map(Arc::from);
    isolations
        .add(order("1", Subject::Tier("standard".into()), To::Block))
        .unwrap();
    let refused: Vec<_> = (1..=3)
        .map(|rank| {
            isolations
                .admit("web", "shop", &tiers[..rank], || at(0))
                .err()
        })
        .map(|refused| refused.map(|refused| refused.reason))
        .collect();
    let overload = Some(Reason::Overload);
    assert_eq!(refused, [None, overload, overload]);
    assert_eq!(isolations.all()[0].counts(), (0, 2));
}

#[test]
fn an_upstream_is_spared_one_thing_and_the_other() {
    let isolations = Isolations::default();
    for (id, to) in [
        ("1", To::ServeStale),
        ("2", To::NoRetries),
        ("3", To::NoRetries),
    ] {
        isolations
            .add(order(id, Subject::Upstream("shop".into()), to))
            .unwrap();
    }
    assert_eq!(isolations.all().len(), 2);
    assert!(isolations.spares("shop", &To::ServeStale));
    assert!(!isolations.spares("search", &To::ServeStale));
    assert!(
        isolations
            .admit("web", "shop", &[], || at(0))
            .unwrap()
            .is_none()
    );
    isolations.release("1").unwrap();
    assert!(!isolations.spares("shop", &To::ServeStale));
    assert!(isolations.spares("shop", &To::NoRetries));
}

#[test]
fn the_same_subject_is_held_once_and_the_number_is_bounded() {
    let isolations = Isolations::default();
    for number in 0..MOST {
        let subject = client(&format!("client {number}"));
        isolations.add(order("1", subject, To::Block)).unwrap();
    }
    let again = order("again", client("client 7"), To::Lane);
    isolations.add(again).unwrap();
    assert_eq!(isolations.all().len(), MOST);
    assert_eq!(
        isolations.add(order("2", client("new"), To::Lane)),
        Err(Full)
    );
    let endpoint = Subject::Endpoint("shop".into(), "127.0.0.1:1".into());
    isolations.release("again").unwrap();
    isolations.add(order("3", endpoint, To::Block)).unwrap();
    assert!(isolations.is_out("shop", "127.0.0.1:1"));
    assert!(!isolations.is_out("shop", "127.0.0.1:2"));
}
