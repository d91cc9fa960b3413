(() => {
  const doors = %DOORS%;
  const here = doors[location.pathname.split("/").pop() || "home"];
  const open = Object.fromEntries(Object.values(doors).map((door) => [door, door === here]));
  try { localStorage.setItem("stSidebarSectionsState-", JSON.stringify(open)); } catch { /* no storage: all are open */ }
})();
