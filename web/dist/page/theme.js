// Runs before anything is painted: a theme that the user chose over the system's.
try {
  const theme = localStorage.getItem('mlxlm.theme');
  if (theme === 'dark' || theme === 'light') document.documentElement.dataset.theme = theme;
} catch {
  // No storage: the system's theme.
}
