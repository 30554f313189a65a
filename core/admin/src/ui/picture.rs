//! The steps of a boot as a picture: who spoke when, in a lane for each kind of message. The list beside it says the same in words.

use minijinja::{Value, context};

/// In units of the picture, which is as wide as a narrow screen.
const WIDTH: u64 = 360;
const LEFT: u64 = 82;
const LANE: u64 = 22;
const TOP: u64 = 14;
/// Marks of things that happened at once lie side by side.
const APART: u64 = 11;

const LANES: [(&str, &[&str]); 3] =
    [("SUBSCRIBE", &["SUBSCRIBE"]), ("NOTIFY", &["NOTIFY"]), ("Files", &["HTTP", "TFTP"])];

/// `steps`: with `at`, `tag`, `title` and `class`.
pub(super) fn boot(steps: &[Value]) -> Value {
    let number = |step: &Value, name: &str| {
        step.get_attr(name).ok().and_then(|value| u64::try_from(value).ok()).unwrap_or_default()
    };
    let text = |step: &Value, name: &str| step.get_attr(name).map(|value| value.to_string()).unwrap_or_default();
    // One step is no picture.
    let [first, .., last] = steps else { return Value::from(()) };
    let began = number(first, "at");
    let lasted = number(last, "at").saturating_sub(began);
    let room = WIDTH - LEFT - APART;
    let mut free = [0; LANES.len()];
    let mut marks = Vec::new();
    for step in steps {
        let tag = text(step, "tag");
        let Some(lane) = LANES.iter().position(|(_, tags)| tags.contains(&tag.as_str())) else { continue };
        let after = number(step, "at").saturating_sub(began);
        // No longer than the picture, however many there are.
        let x = (LEFT + after * room / lasted.max(1)).max(free[lane]).min(WIDTH - APART / 2);
        free[lane] = x + APART;
        let y = TOP + LANE * lane as u64;
        marks.push(context! { x, y, after, class => text(step, "class"), title => text(step, "title") });
    }
    let lanes: Vec<Value> = LANES
        .iter()
        .enumerate()
        .map(|(index, (name, _))| context! { name => *name, y => TOP + LANE * index as u64 })
        .collect();
    let height = TOP + LANE * LANES.len() as u64 + 8;
    context! { width => WIDTH, height, left => LEFT, right => WIDTH, base => height - 4, lanes, marks, lasted }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_step_has_its_mark_in_its_lane_and_none_leaves_the_picture() {
        let step = |at: u64, tag: &str| context! { at, tag, title => "x", class => "good" };
        let mut steps = vec![
            step(1000, "SUBSCRIBE"),
            step(1000, "NOTIFY"),
            step(1050, "NOTIFY"),
            step(3000, "HTTP"),
            step(3000, ""),
        ];
        let marks = |steps: &[Value]| -> Vec<(u64, u64)> {
            let marks = boot(steps).get_attr("marks").unwrap();
            let of = |mark: &Value, name: &str| u64::try_from(mark.get_attr(name).unwrap()).unwrap();
            marks.try_iter().unwrap().map(|mark| (of(&mark, "x"), of(&mark, "y"))).collect()
        };
        assert_eq!(marks(&steps), [(82, 14), (82, 36), (93, 36), (349, 58)]);
        steps.extend((0..100).map(|_| step(3000, "TFTP")));
        assert!(marks(&steps).iter().all(|(x, _)| *x <= WIDTH));
        assert!(boot(&[]).is_none() && boot(&steps[..1]).is_none());
    }
}
