// Lets a bundle be dropped anywhere on the verify page. Without this script the file field does the same.
"use strict";
const form = document.getElementById("drop");
const field = document.getElementById("bundle");
const note = document.getElementById("drop-note");
const most = 64 * 1024 * 1024;

function send() {
  if (field.files.length === 0) return;
  if (field.files[0].size > most) {
    note.textContent = "This file is larger than 64 MiB: verify it with lotline verify FILE.";
    return;
  }
  note.textContent = "Verifying " + field.files[0].name + " …";
  form.submit();
}

for (const name of ["dragenter", "dragover"]) {
  document.addEventListener(name, (event) => { event.preventDefault(); form.classList.add("over"); });
}
document.addEventListener("dragleave", (event) => { if (event.relatedTarget === null) form.classList.remove("over"); });
document.addEventListener("drop", (event) => {
  event.preventDefault();
  form.classList.remove("over");
  if (event.dataTransfer.files.length > 0) {
    field.files = event.dataTransfer.files;
    send();
  }
});
