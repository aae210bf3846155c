// Finds elements as a user would: by kind, name, and nearby text. An exact name is preferred to a
// prefix, which allows for a hint within a label. Elements in <main> take precedence over those in
// the layout of every page.
const [kind, name, near] = arguments;

const FIELDS = "input:not([type=hidden], [type=submit], [type=button]), select, textarea";
const ACTIONS = "a[href], button, summary, input[type=submit], input[type=button], [role=button]";
// The number of ancestors searched for nearby text.
const LEVELS = 8;

const normalize = (text) => (text ?? "").replace(/\s+/g, " ").trim();

const referred = (ids) =>
    ids.split(/\s+/).map((id) => document.getElementById(id)?.textContent).join(" ");

const nameOf = (element) => {
    const by = element.getAttribute("aria-labelledby");
    const images = element.querySelector("img[alt]")?.alt;
    const written = element.localName === "input" ? element.value : element.textContent;
    return normalize(
        (by && referred(by)) ||
            element.getAttribute("aria-label") ||
            element.labels?.[0]?.textContent ||
            normalize(element.matches(FIELDS) ? "" : written) ||
            images ||
            element.title,
    );
};

// A checkbox may be hidden if its label is drawn as a switch.
const visible = (element) =>
    element.checkVisibility({ visibilityProperty: true }) ||
    (element.labels?.[0]?.checkVisibility({ visibilityProperty: true }) ?? false);

const distance = (element) => {
    let around = element;
    for (let level = 0; level < LEVELS && around; level += 1) {
        if (normalize(around.innerText).includes(normalize(near))) return level;
        around = around.parentElement;
    }
    return Infinity;
};

const nearest = (elements) => {
    const distances = elements.map(distance);
    const least = Math.min(...distances);
    return least === Infinity ? [] : elements.filter((_, i) => distances[i] === least);
};

const all = [...document.querySelectorAll(kind === "action" ? ACTIONS : FIELDS)].filter(visible);
const named = all.map((element) => ({ element, called: nameOf(element) }));
const search = (matches) => {
    const matching = named.filter(({ called }) => matches(called)).map(({ element }) => element);
    const inMain = matching.filter((element) => element.closest("main"));
    const found = inMain.length > 0 ? inMain : matching;
    return withoutDuplicates(near === null ? found : nearest(found));
};

// Links with the same name and URL count as one.
const withoutDuplicates = (elements) => {
    const first = (element) => elements.find((other) => other.href && other.href === element.href);
    return elements.filter((element) => (first(element) ?? element) === element);
};

const wanted = normalize(name);
const exact = search((called) => called === wanted);
const elements = exact.length > 0 ? exact : search((called) => called.startsWith(wanted));
return {
    elements: kind === "label" ? elements.map((element) => element.labels?.[0] ?? element) : elements,
    names: named.map(({ called }) => called),
};
