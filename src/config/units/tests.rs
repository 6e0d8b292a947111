use proptest::prelude::*;

use super::*;

#[test]
fn durations_read_as_they_are_written() {
    for (text, millis) in [
        ("250ms", 250),
        ("5s", 5_000),
        ("1h", 3_600_000),
        ("1m30s", 90_000),
        ("1d", 86_400_000),
        ("1d12h", 129_600_000),
        ("0s", 0),
        ("0", 0),
    ] {
        assert_eq!(text.parse(), Ok(Time(Duration::from_millis(millis))));
    }
}

#[test]
fn a_wrong_duration_shows_the_form() {
    for text in [
        "5x", "", "s", "5", "-1s", "1.5s", "1s1s", "1s1m", "5 s", "1é",
    ] {
        assert_eq!(
            text.parse::<Time>().unwrap_err().to_string(),
            format!(
                "`{text}` is not a duration; write a number with ms, s, m, h or d, such as \"250ms\""
            )
        );
    }
    assert!("99999999999999999999d".parse::<Time>().is_err());
    assert!("4000d".parse::<Time>().is_err());
}

#[test]
fn sizes_read_as_they_are_written() {
    for (text, bytes) in [
        ("0", 0),
        ("512", 512),
        ("64KiB", 65_536),
        ("10GiB", 10 << 30),
    ] {
        assert_eq!(text.parse(), Ok(Size(bytes)));
        assert_eq!(Size(bytes).to_string(), text);
    }
    for text in ["64KB", "", "-1", "1.5MiB", "99999999999999999TiB", "KiB"] {
        assert!(text.parse::<Size>().is_err(), "{text}");
    }
}

#[test]
fn ratios_are_shares_or_percentages() {
    assert_eq!("50%".parse(), Ok(Ratio(0.5)));
    assert_eq!("0.25".parse(), Ok(Ratio(0.25)));
    for text in ["1.5", "101%", "-1", "NaN", "inf", "", "%", "half"] {
        assert!(text.parse::<Ratio>().is_err(), "{text}");
    }
}

#[test]
fn rates_read_as_they_are_written() {
    for (text, amount, period, printed) in [
        ("100/s", 100, Period::Second, "100/s"),
        ("60/min", 60, Period::Minute, "60/m"),
        ("5000/h", 5_000, Period::Hour, "5000/h"),
        ("7/d", 7, Period::Day, "7/day"),
        ("1000000/month", 1_000_000, Period::Month, "1000000/month"),
        ("10MiB/s", 10 << 20, Period::Second, "10485760/s"),
    ] {
        let rate = Rate { amount, period };
        assert_eq!(text.parse(), Ok(rate));
        assert_eq!(
            (rate.to_string(), printed.parse()),
            (printed.to_owned(), Ok(rate))
        );
    }
    for text in [
        "", "100", "/s", "100/", "100/w", "-1/s", "1.5/s", "100 /s", "1/s/s",
    ] {
        assert!(text.parse::<Rate>().is_err(), "{text}");
    }
}

proptest! {
    #[test]
    fn what_is_printed_reads_back(millis in 0_u64..300_000_000_000, bytes: u64) {
        let time = Time(Duration::from_millis(millis));
        prop_assert_eq!(time.to_string().parse(), Ok(time));
        prop_assert_eq!(Size(bytes).to_string().parse(), Ok(Size(bytes)));
    }

    #[test]
    fn no_text_panics(text: String) {
        drop((text.parse::<Time>(), text.parse::<Size>(), text.parse::<Ratio>(), text.parse::<Rate>()));
    }
}
