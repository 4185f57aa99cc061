"""The only script of our pages: it copies what a button of `markup.copy_button` holds."""

SCRIPT = """<script>
if (!window.minimindCopies) {
  window.minimindCopies = true;
  const copy = async (text) => {
    if (navigator.clipboard) return navigator.clipboard.writeText(text);
    // A page over plain HTTP from another machine has no clipboard; a selection can be copied everywhere.
    const area = document.body.appendChild(document.createElement("textarea"));
    area.value = text;
    area.select();
    document.execCommand("copy");
    area.remove();
  };
  document.addEventListener("click", async (event) => {
    const button = event.target.closest?.(".mm.copy button");
    if (!button) return;
    await copy(button.dataset.copy);
    const label = button.textContent;
    button.textContent = button.dataset.done;
    setTimeout(() => { button.textContent = label; }, 1500);
  });
}
</script>"""
