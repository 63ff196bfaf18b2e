"""What of the Helm chart is made rather than written: schema, README, rules, dashboards. Pure: texts in, texts out.

`make chart` writes the files (tools/chart.py); a test keeps them equal to what would be made.
"""
