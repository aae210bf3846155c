// Finds what a person would use: by its kind, its name, and the text that it stands with.
// Names are exact; where none is, the beginning of one is enough, so that a hint within a label
// does no harm. What stands in <main> goes before what the frame offers on every page.
const [kind, name, near] = arguments;

const FIELDS = "input:not([type=hidden], [type=submit], [type=button]), select, textarea";
const ACTIONS = "a[href], button, summary, input[type=submit], input[type=button], [role=button]";
// How far around itself something belongs together.
const LEVELS = 8;

const plain = (text) => (text ?? "").replace(/\s+/g, " ").trim();

const referred = (ids) =>
    ids.split(/\s+/).map((id) => document.getElementById(id)?.textContent).join(" ");

const nameOf = (element) => {
    const by = element.getAttribute("aria-labelledby");
    const images = element.querySelector("img[alt]")?.alt;
    const written = element.localName === "input" ? element.value : element.textContent;
    return plain(
        (by && referred(by)) ||
            element.getAttribute("aria-label") ||
            element.labels?.[0]?.textContent ||
            plain(element.matches(FIELDS) ? "" : written) ||
            images ||
            element.title,
    );
};

// A box may be out of sight where its label is drawn as a switch.
const seen = (element) =>
    element.checkVisibility({ visibilityProperty: true }) ||
    (element.labels?.[0]?.checkVisibility({ visibilityProperty: true }) ?? false);

const distance = (element) => {
    let around = element;
    for (let level = 0; level < LEVELS && around; level += 1) {
        if (plain(around.innerText).includes(plain(near))) return level;
        around = around.parentElement;
    }
    return Infinity;
};

const nearest = (elements) => {
    const distances = elements.map(distance);
    const least = Math.min(...distances);
    return least === Infinity ? [] : elements.filter((_, i) => distances[i] === least);
};

const all = [...document.querySelectorAll(kind === "action" ? ACTIONS : FIELDS)].filter(seen);
const named = all.map((element) => ({ element, called: nameOf(element) }));
const search = (fits) => {
    const fitting = named.filter(({ called }) => fits(called)).map(({ element }) => element);
    const inMain = fitting.filter((element) => element.closest("main"));
    const found = inMain.length > 0 ? inMain : fitting;
    return withoutTwins(near === null ? found : nearest(found));
};

// Links that are called alike and lead to one place are as good as one.
const withoutTwins = (elements) => {
    const first = (element) => elements.find((other) => other.href && other.href === element.href);
    return elements.filter((element) => (first(element) ?? element) === element);
};

const wanted = plain(name);
const exact = search((called) => called === wanted);
const elements = exact.length > 0 ? exact : search((called) => called.startsWith(wanted));
return {
    elements: kind === "label" ? elements.map((element) => element.labels?.[0] ?? element) : elements,
    names: named.map(({ called }) => called),
};
