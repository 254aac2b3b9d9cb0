import ast,pathlib,re
ROOT=pathlib.Path('.')
def strings(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value,str): yield node.value
        elif isinstance(node, ast.JoinedStr):
            yield "".join(v.value if isinstance(v,ast.Constant) else "..." for v in node.values)
texts=set()
for p in [*ROOT.glob('plugins/**/*.py')]:
    for s in strings(ast.parse(p.read_text())): texts.add(re.sub(r"%(\(\w+\))?[-\d.]*[sdr]", "...", s))
page=pathlib.Path('docs/troubleshooting.md').read_text()
bad=0
for line in page.splitlines():
    m=re.match(r"\| (.+?) \| (.+?) \| (.+?) \|$", line)
    if not m or m[1] in('message','what') or set(m[1])<=set('-|'): continue
    pieces=[x.strip(" :,.\"'`") for x in m[1].replace('\\|','|').split("...")]
    pieces=[x for x in pieces if x]
    for x in pieces:
        if not any(x in t for t in texts):
            bad+=1; print("MISSING:",repr(x)," in ",m[1])
print(bad)
print("strict")
for line in page.splitlines():
    m=re.match(r"\| (.+?) \| (.+?) \| (.+?) \|$", line)
    if not m or m[1] in('message','what') or set(m[1])<=set('-|'): continue
    pieces=[x.strip(" :,.\"'`") for x in m[1].replace('\\|','|').split("...")]
    rx=".*".join(re.escape(x) for x in pieces if x)
    if not any(re.search(rx,t,re.S) for t in texts): print(m[1])
