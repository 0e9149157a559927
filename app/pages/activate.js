// Sends the token of the one-time link, and the password that its holder chose, to this server only.
const [title, form, password, shown, said] = ["title", "activation", "password", "shown", "said"].map((id) =>
  document.getElementById(id));
const button = form.querySelector("button");
const OVER = "This link was used, replaced or has ended. Ask for a new one.";

function finish(heading, text) {
  form.hidden = true;
  document.title = title.textContent = heading;
  said.textContent = text;
  title.focus();
}

async function activate() {
  const body = JSON.stringify({ token: location.hash.slice(1), password: password.value });
  const headers = { "Content-Type": "application/json" };
  const answer = await fetch("/v1/auth/activate", { method: "POST", headers, body });
  if (answer.ok) {
    history.replaceState(null, "", location.pathname);
    return finish("Your account is active", "You can sign in now, with your e-mail address and this password.");
  }
  if (answer.status === 404) return finish("This link has ended", OVER);
  const problem = await answer.json();
  const fault = problem.errors?.find(({ pointer }) => pointer === "/password");
  said.textContent = fault?.detail ?? problem.detail;
  password.focus();
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  said.textContent = "";
  button.disabled = true;
  await activate().catch(() => { said.textContent = "The server cannot be reached. Try again in a moment."; });
  button.disabled = false;
});

shown.addEventListener("change", () => { password.type = shown.checked ? "text" : "password"; });

addEventListener("hashchange", () => location.reload()); // another link, opened in this tab

if (location.hash.length < 2) finish("This link is not complete", "Open it again just as you were sent it.");
