"""What Streamlit's theme does not say: the looks of our HTML. Colors mix with the text's, so both themes fit."""

STYLE = """<style>
:root { --trained: #0f9d84; --edge: color-mix(in srgb, currentColor 16%, transparent); }
.stApp { --quiet: color-mix(in srgb, currentColor 62%, transparent); }
.stMainBlockContainer { padding-top: 4.5rem; padding-bottom: 3rem; max-width: 76rem; }
.stChatMessage p { white-space: pre-line; overflow-wrap: anywhere; }
.stChatMessage [data-testid=stMarkdownContainer] { overflow-x: auto; }
.mm, .mm * { box-sizing: border-box; }
.mm { line-height: 1.6; overflow-wrap: anywhere; }
.mm .said { white-space: pre-wrap; }
.mm .quiet, .mm.quiet { color: var(--quiet); font-size: .87em; }
.mm table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
.mm th, .mm td { border: 0; border-top: 1px solid var(--edge); padding: .35rem .8rem .35rem 0; text-align: left;
  vertical-align: top; }
.mm tr:first-child > * { border-top: 0; }
.mm th { color: var(--quiet); font-weight: 500; width: 1%; white-space: nowrap; }
.mm td.number { text-align: right; white-space: nowrap; }
.mm.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(8rem, 1fr)); gap: .6rem 1.2rem; }
.cards small { display: block; color: var(--quiet); }
.cards b { font-size: 1.15em; font-weight: 600; font-variant-numeric: tabular-nums; white-space: nowrap; }
.mm .scroll { overflow-x: auto; }

.tokens { position: relative; white-space: pre-wrap; line-height: 1.9; }
.tokens .token { border-radius: 4px; padding: .1em 0; background: color-mix(in srgb,
  #e4572e calc((1 - var(--p)) * 55%), transparent); }
.tokens .token:hover, .tokens .token:focus { outline: 2px solid var(--trained); }
.tokens .tip { display: none; position: absolute; left: 0; margin-top: 1.9em; z-index: 10; width: max-content;
  min-width: 12rem; max-width: 100%; padding: .5rem .7rem; border: 1px solid var(--edge); border-radius: 10px;
  background: light-dark(#fff, #23292c); color: light-dark(#1b1f24, #e6e9e8); font-size: .87em; line-height: 1.5;
  box-shadow: 0 6px 24px rgb(0 0 0 / .18); pointer-events: none; white-space: pre; }
.tokens .token:hover .tip, .tokens .token:focus .tip { display: block; }
.tip .row { display: grid; grid-template-columns: 1fr 5rem 3.4rem; gap: .6rem; align-items: center; }
.tip .row span { overflow: hidden; text-overflow: ellipsis; }
.bar { height: .5rem; border-radius: 4px; background: color-mix(in srgb, currentColor 12%, transparent); }
.bar i { display: block; height: 100%; border-radius: 4px; background: var(--trained); }

.mm.call code { white-space: pre-wrap; font: .87em/1.6 ui-monospace, monospace; }
.call > code, .call .waiting { display: block; margin-top: .4rem; padding-left: .8rem;
  border-left: 3px solid var(--trained); }
.st-key-conversations .stHorizontalBlock { flex-wrap: nowrap; }
.st-key-conversations .stElementContainer { min-width: 0; flex: 1 1 0; }
.st-key-conversations button { min-height: 2.1rem; padding: .15rem .6rem; justify-content: flex-start; }
.st-key-conversations button > div { justify-content: flex-start; max-width: 100%; }
.st-key-conversations .stPopover button > div > div[aria-hidden] { display: none; }

/* Answers side by side take the whole screen, and stand below each other where that is too narrow for them. */
.stMainBlockContainer:has([class*="st-key-answers-"]) { max-width: none; padding-inline: clamp(1rem, 3vw, 4rem); }
[class*="st-key-answers-"] .stHorizontalBlock { flex-wrap: wrap; }
[class*="st-key-answers-"] .stHorizontalBlock > .stColumn { min-width: min(100%, 21rem); flex: 1 1 21rem; }

.mm.copy button { border: 0; padding: .1rem .4rem; border-radius: 6px; background: none; color: var(--quiet);
  font: inherit; font-size: .87em; cursor: pointer; }
.mm.copy button:hover, .mm.copy button:focus-visible { background: var(--edge); color: inherit; }
.mm.welcome { text-align: center; margin-top: 22vh; }

.masked { white-space: pre-wrap; line-height: 1.9; }
.masked span { color: var(--quiet); }
.masked .trained { color: inherit; border-radius: 3px;
  background: color-mix(in srgb, var(--trained) 24%, transparent); }
.masked .control { font: .8em ui-monospace, monospace; border: 1px solid var(--edge); border-radius: 5px;
  padding: .05em .3em; }

.mm.legend { display: flex; flex-wrap: wrap; gap: .2rem 1rem; align-items: baseline; }
.legend b { font-weight: 600; }
.legend span { color: var(--quiet); font-size: .87em; }
.legend i { display: inline-block; width: .8em; height: .25em; border-radius: 2px; margin-right: .4em;
  vertical-align: middle; }

.mm.shares { display: grid; grid-template-columns: auto 1fr auto auto; gap: .7rem 1rem; align-items: center;
  font-variant-numeric: tabular-nums; overflow-wrap: normal; }
.shares div:nth-child(4n), .shares div:nth-child(4n + 3) { text-align: right; }

.packed { display: grid; gap: 4px; }
.packed .row { display: flex; height: 20px; border-radius: 5px; overflow: hidden;
  background: repeating-linear-gradient(45deg, transparent 0 4px, var(--edge) 4px 5px); }
.packed .row i { border-right: 1px solid light-dark(#fcfcfb, #131618);
  background: color-mix(in srgb, var(--color) 72%, light-dark(#fcfcfb, #131618)); }

.stack { display: grid; gap: 6px; max-width: 34rem; }
.stack .part { display: flex; justify-content: space-between; gap: 1rem; padding: .45rem .8rem; border-radius: 8px;
  border: 1px solid var(--edge); background: color-mix(in srgb, currentColor 4%, transparent); }
.stack .part b { font-weight: 550; white-space: nowrap; }
.stack .part span { color: var(--quiet); font-variant-numeric: tabular-nums; text-align: right; }
.stack .times { position: relative; display: grid; gap: 6px; padding: .7rem; border: 1.5px dashed var(--trained);
  border-radius: 12px; }
.stack .times > em { font-style: normal; font-size: .87em; color: var(--trained); }

.heads { display: grid; gap: 6px; overflow-x: auto; }
.heads .layer { display: grid; grid-auto-flow: column; grid-auto-columns: minmax(44px, 120px); gap: 6px;
  align-items: center; }
.heads figure { margin: 0; }
.heads img { width: 100%; display: block; aspect-ratio: 1; image-rendering: pixelated; border-radius: 5px;
  border: 1px solid var(--edge); }
.heads figcaption { color: var(--quiet); font-size: .72em; line-height: 1.5; }
</style>"""
