/// The style sheet of a report: light and dark by the reader's setting, one column on a narrow screen, plain on paper.
enum ReportStyle {
    static let sheet: Markup = """
        :root{color-scheme:light dark;--paper:#ffffff;--ink:#1c2126;--soft:#5b6670;--rule:#dfe3e8;--panel:#f5f7f9;\
        --a:#0b62c4;--b:#c2500a;--good:#1a7f37;--bad:#c0262d;--warn:#8a5a00}
        @media (prefers-color-scheme:dark){:root{--paper:#14181c;--ink:#e6eaee;--soft:#9aa6b1;--rule:#2d353d;--panel:#1c2228;\
        --a:#6cb0ff;--b:#ffa25e;--good:#56c271;--bad:#ff7b7f;--warn:#e3b341}}
        *{box-sizing:border-box}
        body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
        main{max-width:1080px;margin:0 auto;padding:24px 20px 64px}
        h1{font-size:1.6rem;line-height:1.25;margin:0 0 4px;overflow-wrap:anywhere}
        h2{font-size:1.15rem;margin:40px 0 12px;padding-bottom:6px;border-bottom:1px solid var(--rule)}
        .under{color:var(--soft);margin:0 0 20px;overflow-wrap:anywhere}
        .state{font-weight:600}.succeeded,.yes{color:var(--good)}.failed,.dependency_failed,.no{color:var(--bad)}
        .tiles{display:grid;grid-template-columns:repeat(auto-fill,minmax(150px,1fr));gap:12px;margin:0;padding:0}
        .tiles div{background:var(--panel);border:1px solid var(--rule);border-radius:8px;padding:10px 12px;min-width:0}
        dt{color:var(--soft);font-size:.8rem}dd{margin:2px 0 0;font-size:1.05rem;font-variant-numeric:tabular-nums;overflow-wrap:anywhere}
        .note{border-left:4px solid var(--warn);background:var(--panel);padding:8px 14px;margin:10px 0;overflow-wrap:anywhere}
        .note.bad{border-color:var(--bad)}
        .charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,420px),1fr));gap:20px}
        figure{margin:0;min-width:0}figure.wide{grid-column:1/-1}
        figcaption{font-weight:600;margin-bottom:4px}.unit,.none,.keys{color:var(--soft);font-weight:400;font-size:.85rem}
        .keys{margin:2px 0 0}
        .key{display:inline-block;width:18px;height:0;border-top:3px solid;vertical-align:middle;margin-right:6px}
        .key.a{color:var(--a)}.key.b{color:var(--b)}.key.marked{color:var(--good);border-top-style:dashed}
        svg{display:block;width:100%;height:auto;background:var(--paper)}
        svg text{fill:var(--soft);font-size:12px;font-family:inherit}
        svg .grid{stroke:var(--rule)}svg .axis{stroke:var(--soft)}svg .marked{stroke:var(--good);stroke-dasharray:4 3}
        svg path{fill:none;stroke-linejoin:round}svg path.a{stroke:var(--a)}svg path.b{stroke:var(--b)}
        svg .line{stroke-width:2.2}svg .faint{stroke-width:1;opacity:.4}svg .thin{stroke-width:1.4;opacity:.8}
        svg .band{stroke:none!important;opacity:.18}svg .band.a{fill:var(--a)}svg .band.b{fill:var(--b)}
        svg circle.a{fill:var(--a)}svg circle.b{fill:var(--b)}
        .scroll{overflow-x:auto}
        table{border-collapse:collapse;width:100%;font-size:.92rem}
        th,td{text-align:left;vertical-align:top;padding:6px 12px 6px 0;border-bottom:1px solid var(--rule);overflow-wrap:break-word}
        td code{overflow-wrap:anywhere}h3{font-size:1rem;margin:20px 0 8px}
        th{font-weight:600}th[scope=row]{font-weight:400;color:var(--soft)}td.number{font-variant-numeric:tabular-nums;white-space:nowrap}
        code,pre{font:.88rem/1.45 ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace}
        .columns{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,380px),1fr));gap:8px 40px}
        article{border:1px solid var(--rule);border-radius:8px;padding:12px 16px;margin:0 0 16px;break-inside:avoid}
        article h3{margin:0 0 8px;font-size:1rem}
        .answers{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,240px),1fr));gap:12px}
        .answers>div{min-width:0}.label{color:var(--soft);font-size:.8rem;margin:8px 0 2px}
        pre{margin:0;padding:8px 10px;background:var(--panel);border-radius:6px;white-space:pre-wrap;overflow-wrap:anywhere;\
        unicode-bidi:plaintext}
        footer{color:var(--soft);font-size:.85rem;margin-top:48px}
        @media print{:root{--paper:#fff;--ink:#000;--soft:#444;--rule:#bbb;--panel:#f6f6f6;--a:#0b62c4;--b:#c2500a;--good:#1a7f37;\
        --bad:#c0262d;--warn:#8a5a00}body{font-size:11pt}main{max-width:none;padding:0}figure,article,tr{break-inside:avoid}\
        h2{break-after:avoid}.charts{grid-template-columns:1fr 1fr}}
        """
}
