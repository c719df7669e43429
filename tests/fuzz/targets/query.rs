#![no_main]
use lockgate_fuzz::proto::query::{pairs, value};
// The pairs are the whole query; the first value of a name is the one that is found.
libfuzzer_sys::fuzz_target!(|query: &str| {
    let all: Vec<_> = pairs(query).collect();
    let raw: Vec<&str> = all.iter().map(|pair| pair.raw).collect();
    assert_eq!(raw.join("&"), query);
    for pair in &all {
        assert!(!pair.name.contains(['&', '=']));
        assert_eq!(pair.raw.len(), pair.name.len() + pair.value.map_or(0, |value| value.len() + 1));
        let first = all.iter().find(|other| other.name == pair.name && other.value.is_some());
        assert_eq!(value(query, pair.name), first.and_then(|first| first.value));
    }
});
