# short_name: the name of a demangled kernel without namespaces, parameters and blanks.
function short_name(s, i, c, depth) {
  gsub(/\(anonymous namespace\)::/, "", s)
  sub(/^void /, "", s)
  depth = 0
  for (i = 1; i <= length(s); i++) {
    c = substr(s, i, 1)
    if (c == "<") depth++
    else if (c == ">") depth--
    else if (c == "(" && depth == 0) break
  }
  s = substr(s, 1, i - 1)
  gsub(/ /, "", s)
  return s
}
