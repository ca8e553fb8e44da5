"""Make the PDF files of examples/chat_with_documents; they are the same, byte for byte, each time.

python -m tools.make_example_pdfs
"""

from datetime import UTC, datetime
from pathlib import Path

from fpdf import FPDF

FOLDER = Path(__file__).parent.parent / "examples" / "chat_with_documents"

# file -> title, and the pages: each a list of sections
DOCUMENTS: dict[str, tuple[str, list[list[tuple[str, str]]]]] = {
    "bicycle-manual.pdf": (
        "Fjord 3 electric bicycle: manual",
        [
            [
                (
                    "Before the first ride",
                    "Set the saddle at the height of your hip. Check both brakes before every ride.",
                ),
                ("Riding", "The motor helps up to 25 kilometres per hour. The button on the left changes the help."),
            ],
            [
                ("Battery", "The battery lasts 80 kilometres on flat roads. Charging the battery takes 4 hours."),
                ("Winter", "Keep the battery indoors when it is colder than 5 degrees."),
            ],
            [
                ("Care", "Oil the chain every 300 kilometres. The tyres want a pressure of 4 bar."),
                ("Warranty", "The warranty on the frame lasts 10 years. The warranty on the battery lasts 2 years."),
            ],
        ],
    ),
    "rental-contract.pdf": (
        "Contract for the flat at Harbour Street 12",
        [
            [
                ("Rent", "The rent is 940 euros a month. The rent is due on the third day of each month."),
                ("Deposit", "The deposit is 1880 euros. It is paid back two months after the tenant has left."),
            ],
            [
                ("Notice", "The tenant may give notice three months before leaving. Notice must be given in writing."),
                ("Pets", "One cat or one small dog is allowed in the flat. Snakes are not allowed."),
                ("Repairs", "The tenant pays for repairs below 75 euros. The landlord pays for all other repairs."),
            ],
        ],
    ),
    "travel-rules.pdf": (
        "Travelling for work: the rules",
        [
            [
                (
                    "Booking",
                    "Trains are booked by the travel desk. A flight needs the approval of the head of department.",
                ),
                ("Hotels", "A hotel may cost 120 euros a night. Breakfast is paid by the company."),
            ],
            [
                ("Meals", "The allowance for meals is 38 euros a day. Alcohol is never paid by the company."),
                ("Expenses", "Expenses must be handed in within 30 days. Every expense needs a receipt."),
            ],
        ],
    ),
}


def write_pdf(file: Path, title: str, pages: list[list[tuple[str, str]]]) -> None:
    """One page after the other: its sections, each a heading, which the outline names, with a paragraph under it."""
    pdf = FPDF(format=(148, 210))
    pdf.set_creation_date(datetime(2026, 1, 1, tzinfo=UTC))
    pdf.set_title(title)
    pdf.set_margins(18, 18)
    for number, sections in enumerate(pages, start=1):
        pdf.add_page()
        if number == 1:
            pdf.set_font("Helvetica", "B", 18)
            pdf.start_section(title)
            pdf.multi_cell(0, 9, title, new_x="LMARGIN", new_y="NEXT")
        for heading, text in sections:
            pdf.ln(5)
            pdf.set_font("Helvetica", "B", 14)
            pdf.start_section(heading, level=1)
            pdf.cell(0, 8, heading, new_x="LMARGIN", new_y="NEXT")
            pdf.set_font("Helvetica", "", 11)
            pdf.multi_cell(0, 6, text, new_x="LMARGIN", new_y="NEXT")
    pdf.output(str(file))


if __name__ == "__main__":
    for name, (title, pages) in DOCUMENTS.items():
        write_pdf(FOLDER / name, title, pages)
