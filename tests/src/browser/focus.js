const focused = document.activeElement;
const style = getComputedStyle(focused);
const label = focused.labels?.[0]?.textContent;
const name = focused.getAttribute("aria-label") ?? label ?? focused.textContent;
return {
    tag: focused.localName,
    name: name.replace(/\s+/g, " ").trim(),
    shown: style.outlineStyle !== "none" || style.boxShadow !== "none",
};
