// Keeps the files of this page in the browser, so that it works without a network from the second visit on. The export
// writes their names and VERSION, a hash of what is in them, above.

addEventListener("install", (event) => event.waitUntil(caches.open(VERSION).then((cache) => cache.addAll(FILES))));

addEventListener("activate", (event) => event.waitUntil(forget()));

addEventListener("fetch", (event) => event.respondWith(answer(event.request)));

async function forget() {
  const names = await caches.keys();
  const old = names.filter((name) => name.startsWith("asr-") && name !== VERSION); // the host may have others
  await Promise.all(old.map((name) => caches.delete(name)));
  await clients.claim();
}

async function answer(request) {
  const cache = await caches.open(VERSION);
  return await cache.match(request, { ignoreSearch: true }) ?? fetch(request);
}
