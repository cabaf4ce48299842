// Light or dark: as the system says, until the switch is used.

const CHOICE = "akasha-stream.theme";
const NEXT = { light: "dark", dark: "light" };
const dark = matchMedia("(prefers-color-scheme: dark)");

const shown = () => localStorage.getItem(CHOICE) ?? (dark.matches ? "dark" : "light");

export function startTheme(button) {
  const apply = () => {
    const theme = shown();
    document.documentElement.dataset.theme = theme;
    button.textContent = theme === "dark" ? "Light" : "Dark";
    button.setAttribute("aria-label", `Switch to ${NEXT[theme]} colours`);
    window.dispatchEvent(new CustomEvent("akasha:theme"));
  };
  button.addEventListener("click", () => {
    const chosen = NEXT[shown()];
    // Back to what the system says is no choice any more.
    if (chosen === (dark.matches ? "dark" : "light")) localStorage.removeItem(CHOICE);
    else localStorage.setItem(CHOICE, chosen);
    apply();
  });
  dark.addEventListener("change", apply);
  apply();
}
