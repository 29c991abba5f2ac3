use super::*;

#[test]
fn paths_name_what_is_asked_for() {
    let drain = Asked::of(&["enclosures", "3", "drain"]);
    assert_eq!(
        drain,
        Some(Asked::Drain(Subject::Enclosure(EnclosureId::new(3))))
    );
    assert_eq!(Asked::of(&["plan", "add"]), Some(Asked::PlanAdd));
    assert_eq!(Asked::of(&["enclosures", "x", "drain"]), None);
    assert_eq!(Asked::of(&["plan"]), None);
}

#[test]
fn only_the_removal_of_an_enclosure_makes_it_forgotten() {
    let removal = Asked::of(&["enclosures", "3", "remove"]).unwrap();
    assert_eq!(removal.removes(), Some(EnclosureId::new(3)));
    assert_eq!(Asked::Out(EnclosureId::new(3)).removes(), None);
}
