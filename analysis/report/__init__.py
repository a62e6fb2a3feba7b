"""Any table as one page that opens offline: an answer, a section for each thing that varies, and how to do it again."""
