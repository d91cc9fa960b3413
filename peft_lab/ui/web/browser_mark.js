// The mark by which a browser's runs are found again. A tab that was opened earlier may have kept one meanwhile.
export default function ({ data }) {
  if (document.cookie.split("; ").some((one) => one.startsWith("%COOKIE%="))) return;
  document.cookie = `%COOKIE%=${data.mark}; path=/; max-age=%YEAR%; SameSite=Strict`;
}
